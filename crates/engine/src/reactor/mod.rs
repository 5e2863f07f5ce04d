//! EVENTS: what is watched for whom, and what is due when.
//!
//! [`Registry`] maps the driver's tokens to sources, [`Timers`] holds deadlines. Neither runs anybody's code:
//! they say what is ready, and the executor runs it once their borrows are over.

mod registry;
mod timers;

pub use registry::{Dispatch, Registry, SourceKey};
pub use timers::{TimerKey, Timers};
