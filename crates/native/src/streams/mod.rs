//! asyncio's streams, with the work of each message done natively.
//!
//! A transport whose protocol is asyncio's own `StreamReaderProtocol` [`adopt`]s it: protocol and reader become
//! instances of subclasses (`aioxide._streams`) that differ in nothing but who does the work. All state stays where
//! asyncio keeps it, in the attributes of the reader, so that its other methods go on working on it.
//!
//! Data's way: [`feed()`] puts what was received into the reader's buffer and wakes the task that waits for it;
//! `reader.read()` and its kin are [`operation::StreamOperation`]s, which take it out again.

mod feed;
mod methods;
mod operation;
mod reader;

pub use feed::{adopt, feed};
pub use methods::add_stream_methods;
pub use operation::StreamOperation;
