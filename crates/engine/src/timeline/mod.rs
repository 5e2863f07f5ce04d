//! What ran when: fixed records in a ring per thread, and numbers that are always counted.
//!
//! ```text
//!   clock      the cheapest clock there is
//!   record     what a record says, in 32 bytes
//!   ring       a thread's records: it alone writes, anybody reads
//!   lanes      the lines of the picture, and names
//!   book       the rings of all threads, levels, recordings
//!   threads    what threads and requests say of themselves
//!   recorder   what a loop says of itself: its steps, its waits, its statistics
//!   sampler    a thread that looks at what no hook tells: the host's lock, threads on a CPU
//!   watchdog   a thread that looks at loops whose step takes long; collector: when the host collected garbage
//!   freeze     what it saw, and what that means
//!   usage      who ran how much of late
//!   recording  from records to slices, wakes and marks; perfetto: as a trace for that tool
//! ```
//!
//! Three levels ([`Level`]): *counters* only counts. *Flight*, the default, keeps the last records of each thread, at
//! most 64 MiB in all. *Full* is a recording with a beginning and an end ([`start`], [`stop`]).
//!
//! The end of a slice is the start of the next, so a step costs one reading of the clock and one record. In flight a
//! loop whose steps come faster than the recorder could follow for 2 % of the time (more than about 50,000 a second)
//! is read in groups of 16 steps; the picture says so.
//!
//! A *lane* is a line of the picture: a loop, a task, a callback, a thread, a request. *Names* are interned once.

mod book;
mod clock;
mod collector;
mod freeze;
mod lanes;
mod perfetto;
mod record;
mod recorder;
mod recording;
mod ring;
mod sampler;
mod statistics;
mod threads;
mod usage;
mod watchdog;

pub use book::{Level, epoch, is_recording, level, records_all, set_level, snapshot, start, stop};
pub use clock::{Clock, ticks};
pub use collector::{collection_begins, collection_ends};
pub use freeze::{Cause, Frame, Judgement, Sight};
pub use lanes::{LaneId, LaneInfo, LaneKind, NameId, name};
pub use perfetto::perfetto;
pub use record::Woken;
pub use recorder::{Pulse, Recorder, Slow, Step, set_slow_threshold, slow_threshold};
pub use recording::{Freeze, Recording, Slice, State};
pub use sampler::{LockProbe, Sampled, Sampler, sample_lock, sample_threads, thread_name};
pub use statistics::{Histogram, Statistics};
pub use threads::{Work, begin, current_lane, end, lane, mark, named_lane, rename, wait, wait_end, wake, work};
pub use usage::{Usage, usage};
pub use watchdog::{Witness, is_watched, unwatch, watch};
