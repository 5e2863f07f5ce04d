//! An event loop that runs callbacks and futures side by side, an HTTP client on the loop's own thread, and a
//! recorder of what ran when.
//!
//! The layers, each in its own folder; a layer uses only those below it:
//!
//! ```text
//!   http       request → pool → connection → response
//!   transport  tcp streams and listeners for futures, buffered streams for callbacks      BYTES
//!   executor   ready queue, tasks, injector                                                STEPS
//!   reactor    descriptors and timers                                                      EVENTS
//!   driver     epoll, notifier, system calls                                               KERNEL
//!   timeline   what ran when (used by all)
//! ```
//!
//! ```
//! use std::time::Duration;
//!
//! let event_loop = aioxide::EventLoop::new()?;
//! let handle = event_loop.handle().clone();
//! let sum = event_loop.block_on(async move {
//!     let slow = handle.spawn({
//!         let handle = handle.clone();
//!         async move {
//!             handle.sleep(Duration::from_millis(2)).await;
//!             40
//!         }
//!     });
//!     slow.await + 2
//! })?;
//! assert_eq!(sum, 42);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod driver;
mod event_loop;
pub mod executor;
mod handle;
pub mod http;
pub mod reactor;
pub mod timeline;
pub mod transport;

pub use driver::{Readiness, thread_cpu_time};
pub use event_loop::{Callbacks, EventLoop, Host, RemoteScheduler, RunError};
pub use executor::JoinHandle;
pub use handle::{LoopHandle, Sleep, now_ns};
