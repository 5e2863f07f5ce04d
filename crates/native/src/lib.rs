//! Python bindings of aioxide: they convert, call and map errors; policy lives in the engine or in Python.
//!
//! A call's way: [`event_loop`] schedules [`handle`]s on the loop that [`engine`] lends to one thread at a time;
//! [`host`] runs them and hands readiness to [`watches`], which know the callback or [`transport`] it concerns; [`tls`]
//! stands on a transport. [`raw`] has the calls PyO3 has no safe form for, [`gil_cell`] what threads share.

mod address;
mod bare_call;
mod build_info;
mod coroutine;
mod datagram;
mod engine;
mod errors;
mod event_loop;
mod freelist;
mod gil_cell;
mod handle;
mod host;
mod http;
mod raw;
mod receive;
mod sock;
mod streams;
mod task_register;
mod tasks;
mod thread_end;
mod threadsafe_handle;
mod timeline;
mod tls;
mod transport;
mod watches;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// The native half of aioxide.
// What threads share on a free-threaded build is in a `gil_cell::GilCell`, an `engine::Engine`, or Sync by itself.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // CPython itself refuses only those that do not share the main interpreter's lock.
    if !raw::is_main_interpreter(module.py()) {
        return Err(PyImportError::new_err("aioxide cannot be used in a sub-interpreter"));
    }
    // The length of the clock's ticks is known some time after it was first read.
    let _ = aioxide::timeline::ticks();
    event_loop::add_methods(module.py())?;
    sock::add_methods(module.py())?;
    module.add_class::<event_loop::Loop>()?;
    module.add_function(wrap_pyfunction!(event_loop::add_loop_methods, module)?)?;
    module.add_class::<handle::Handle>()?;
    module.add_class::<handle::TimerHandle>()?;
    module.add_class::<threadsafe_handle::ThreadSafeHandle>()?;
    // What extends a handle has inherited its slots by now, as they were.
    freelist::install::<handle::Handle>(module.py());
    freelist::install::<handle::TimerHandle>(module.py());
    module.add_class::<datagram::DatagramTransport>()?;
    raw::add_finalizer(&module.py().get_type::<datagram::DatagramTransport>())?;
    module.add_class::<sock::SocketOperation>()?;
    module.add_class::<streams::StreamOperation>()?;
    module.add_function(wrap_pyfunction!(streams::add_stream_methods, module)?)?;
    module.add_class::<transport::SocketTransport>()?;
    raw::add_finalizer(&module.py().get_type::<transport::SocketTransport>())?;
    module.add_function(wrap_pyfunction!(transport::accept_connection, module)?)?;
    module.add_class::<tls::TlsTransport>()?;
    raw::add_finalizer(&module.py().get_type::<tls::TlsTransport>())?;
    module.add_function(wrap_pyfunction!(build_info::build_facts, module)?)?;
    timeline::add_functions(module)?;
    http::add_classes(module)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
