//! When a response may be used again: the rules of RFC 9111, for whoever stores responses.
//!
//! ```text
//!   directives   what Cache-Control says
//!   asked        what a request wants of a cache
//!   policy       what may be done with a stored response, and how old it is
//!   fields       which fields are stored, and what a 304 changes of them
//! ```
//!
//! Nothing is stored here, and no clock is read: times are seconds since 1970, as the caller has them.

mod asked;
mod directives;
mod fields;
mod policy;

pub use asked::{AskedOfCache, selecting_values};
pub use fields::{Field, merged_fields, storable_fields};
pub use policy::{CachePolicy, Exchanged, Reuse};
