//! A server's connections.

use pyo3::intern;
use pyo3::prelude::*;

use super::{Facts, SocketTransport};
use crate::event_loop::Loop;
use crate::raw;
use crate::sock::accept_socket;

/// Accepts the connection that has waited longest, makes its protocol and begins its transport; false when none waits.
///
/// It has a context of its own, a copy of `context` or of the current one: what the protocol's factory sets there is
/// seen by this connection alone. What goes wrong once it is accepted ends it, and nobody hears of that, as in asyncio
/// without debug mode.
///
/// Raises `OSError` if nothing can be accepted, and what ends a loop's run.
#[pyfunction]
pub fn accept_connection(
    event_loop: &Bound<'_, Loop>,
    listener: &Bound<'_, PyAny>,
    protocol_factory: &Bound<'_, PyAny>,
    server: Option<Bound<'_, PyAny>>,
    context: Option<Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let py = event_loop.py();
    let Some((sock, peer)) = accept_socket(listener)? else { return Ok(false) };
    let begin = || {
        let context = context.map(raw::given_context).transpose()?.flatten();
        let own = match &context {
            Some(given) => given.call_method0(intern!(py, "copy"))?.unbind(),
            None => raw::copy_context(py)?,
        };
        let kept = context.map(|_| own.bind(py).clone());
        raw::in_context(py, &own, || {
            let protocol = protocol_factory.call0()?;
            let facts = Facts::of_accepted(&sock, peer)?;
            SocketTransport::open(event_loop, &sock, &protocol, None, facts, server, kept).map(drop)
        })
    };
    if let Err(error) = begin() {
        sock.call_method0(intern!(py, "close"))?;
        if raw::ends_run(py, &error) {
            return Err(error);
        }
    }
    Ok(true)
}
