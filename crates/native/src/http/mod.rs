//! The HTTP client and server for Python.
//!
//! A request's way depends on who waits for it; the Rust future it becomes is the same on each:
//!
//! ```text
//!            ┌─ an aioxide loop ── `on_loop`: a task of that loop, in its thread
//!   client ──┼─ another loop ───── `background`: a task of the one background engine; `outbox` hands over
//!            └─ blocking code ──── `blocking`: a loop of the calling thread, turned by the call itself
//!                                  (a streamed body outlives the call, so it is left to the background engine)
//!   template  what plain requests have in common, so that each is made without asking Python
//!   convert   Python's arguments to a request, errors to exceptions
//!   upload    a request's body that comes piece by piece
//!   answer    what comes of it, and its body when it is streamed
//!   websocket what a connection has become
//!   decoder   undoes a body's encoding
//!   cache     the rules for stored responses
//!   tls       sessions of the user's SSLContext, for https
//!   many      many requests at once, as an async iterator
//!   completed what came of each
//! ```

mod answer;
mod background;
mod blocking;
mod cache;
mod client;
mod completed;
mod convert;
mod decoder;
mod many;
mod on_loop;
mod outbox;
mod server;
mod template;
mod tls;
mod upload;
mod waiting;
mod websocket;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

/// Adds the classes to the module.
pub fn add_classes(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<client::HttpClient>()?;
    module.add_class::<template::Template>()?;
    module.add_class::<answer::RawResponse>()?;
    module.add_class::<on_loop::PendingResponse>()?;
    module.add_class::<many::FetchMany>()?;
    module.add_class::<completed::Completed>()?;
    module.add_class::<upload::Upload>()?;
    module.add_class::<decoder::BodyDecoder>()?;
    module.add_class::<cache::CachePolicy>()?;
    module.add_class::<cache::CacheRequest>()?;
    module.add_function(wrap_pyfunction!(cache::cache_storable_fields, module)?)?;
    module.add_function(wrap_pyfunction!(cache::cache_merged_fields, module)?)?;
    module.add_class::<websocket::RawWebSocket>()?;
    module.add_class::<websocket::WebSocketOperation>()?;
    module.add_function(wrap_pyfunction!(are_plain_urls, module)?)?;
    module.add_function(wrap_pyfunction!(domain_to_ascii, module)?)?;
    module.add_function(wrap_pyfunction!(domain_to_unicode, module)?)?;
    module.add_function(wrap_pyfunction!(is_public_suffix, module)?)?;
    module.add_class::<server::HttpServer>()
}

/// Whether all of these are plain URLs: texts that stand for themselves, see [`template::is_plain`].
#[pyfunction]
fn are_plain_urls(urls: &Bound<'_, PyList>) -> bool {
    urls.iter().all(|url| url.cast_exact::<PyString>().is_ok_and(|url| url.to_str().is_ok_and(template::is_plain)))
}

/// A domain name as it goes over the wire; None for what is no domain name.
#[pyfunction]
fn domain_to_ascii(domain: &str) -> Option<String> {
    aioxide::http::domain_to_ascii(domain)
}

/// A domain name as people read it.
#[pyfunction]
fn domain_to_unicode(domain: &str) -> String {
    aioxide::http::domain_to_unicode(domain)
}

/// Whether a domain name, as it goes over the wire, is a public suffix: anybody may register a name below it.
#[pyfunction]
fn is_public_suffix(domain: &str) -> bool {
    aioxide::http::is_public_suffix(domain)
}
