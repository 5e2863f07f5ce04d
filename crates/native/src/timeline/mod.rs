//! What Python shows of itself to the recorder.
//!
//! [`lanes`] knows the lane of each task and the name of each callback; [`classes`] what objects can be asked; [`waits`] what a suspended task waits for;
//! [`executor`] shows what executor threads do; [`numbers`] what a loop counts; [`dump`] writes recordings for other tools; [`freezes`] reports frozen loops;
//! [`samples`] has a sampler look at who has the GIL, by [`gil_probe`]; [`functions`] is what `aioxide.timeline` is made of.

mod classes;
mod dump;
mod executor;
mod freezes;
mod functions;
mod gil_probe;
mod lanes;
mod numbers;
mod samples;
mod waits;

use pyo3::prelude::*;

pub use freezes::{report, watch};
pub use lanes::{LaneBook, describe_callback, describe_transport};
pub use numbers::statistics;
pub use waits::waits_for;

/// Adds what `aioxide.timeline` uses.
pub fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    functions::add(module)?;
    freezes::add(module)?;
    samples::add(module)?;
    module.add_function(wrap_pyfunction!(dump::timeline_perfetto, module)?)?;
    module.add_class::<executor::ExecutorCall>()
}
