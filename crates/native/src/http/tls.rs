//! https: sessions of the user's own `ssl.SSLContext` for the engine's connections.
//!
//! The session is the same that the loop's TLS transports use. What differs is who uses it: the thread of a loop, which
//! is attached to the interpreter, a thread that blocks, attached too, or the background engine's, which attaches only
//! where the session does by itself (see [`background::unless_exiting`]).

use std::any::Any;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aioxide::transport::ByteStream;
use aioxide::transport::tls::{Connector, SessionHost, TlsByteStream, TlsFailure, TlsStream};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyString, PyType};

use super::background;
use crate::tls::{Session, Wanted};

/// So many servers' sessions are kept for resumption.
const SESSIONS_MAX: usize = 100;

/// Makes sessions of the context that a Python function gives.
pub struct ContextConnector {
    context: Py<PyAny>,
    sessions: Arc<Sessions>,
}

/// The last `ssl.SSLSession` of each server, by its name: with it the next handshake is shorter.
#[derive(Default)]
struct Sessions(Mutex<HashMap<String, Py<PyAny>>>);

impl Sessions {
    fn last(&self, py: Python<'_>, server_name: &str) -> Option<Py<PyAny>> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(server_name).map(|session| session.clone_ref(py))
    }

    fn keep(&self, server_name: &str, session: Py<PyAny>) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = sessions.len() >= SESSIONS_MAX && !sessions.contains_key(server_name);
        let forgotten = if is_full { std::mem::take(&mut *sessions) } else { HashMap::new() };
        let before = sessions.insert(server_name.to_owned(), session);
        drop(sessions);
        drop((forgotten, before));
    }
}

impl ContextConnector {
    /// `context` is called for each connection; it gives an `ssl.SSLContext`.
    pub fn new(context: Py<PyAny>) -> Self {
        Self { context, sessions: Arc::default() }
    }

    fn session(&self, py: Python<'_>, server_name: &str) -> PyResult<(Session, Resumption)> {
        let context = self.context.bind(py).call0()?;
        let server_hostname = PyString::new(py, server_name).into_any();
        let wanted = Wanted { context: &context, server_side: false, server_hostname: Some(&server_hostname) };
        let session = Session::new(&wanted)?;
        // A context of another class may look at the peer's certificates itself, which a resumed session has not got.
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        if !context.get_type().is(CLASS.import(py, "ssl", "SSLContext")?) {
            return Ok((session, None));
        }
        if let Some(last) = self.sessions.last(py, server_name) {
            // One of a context that is no longer in use is refused, and then replaced.
            let _refused = session.object().bind(py).setattr(intern!(py, "session"), last);
        }
        Ok((session, Some((Arc::clone(&self.sessions), server_name.to_owned()))))
    }
}

impl Connector for ContextConnector {
    fn connect(&self, lower: Rc<dyn ByteStream>, server_name: &str) -> io::Result<Rc<dyn TlsByteStream>> {
        let made = background::unless_exiting(|_| {
            Python::attach(|py| match self.session(py, server_name) {
                Ok((session, resumption)) => {
                    let object = Arc::new(SslObject::new(session.object().clone_ref(py)));
                    let owner = Owner { object, resumption };
                    Ok(Rc::new(TlsStream::new(lower, owner, session)) as Rc<dyn TlsByteStream>)
                }
                Err(error) => Err(failure(py, error).into_io()),
            })
        });
        made.unwrap_or_else(|| Err(io::Error::other("the interpreter is exiting")))
    }
}

fn failure(py: Python<'_>, error: PyErr) -> TlsFailure {
    let words = error.value(py).to_string();
    TlsFailure::new(if words.is_empty() { error.to_string() } else { words }, error)
}

/// A connection's `ssl.SSLObject`, and who else may use it.
pub struct SslObject {
    object: Py<PyAny>,
    /// Somebody has the object, and may call it from any thread that is attached.
    is_shared: AtomicBool,
    /// Held by the background engine while it uses the session without being attached.
    at_work: Mutex<()>,
}

impl SslObject {
    fn new(object: Py<PyAny>) -> Self {
        Self { object, is_shared: AtomicBool::new(false), at_work: Mutex::new(()) }
    }

    /// The object, for whoever wants it.
    pub fn share(&self, py: Python<'_>) -> Py<PyAny> {
        if !self.is_shared.swap(true, Ordering::SeqCst) {
            // What is under way ends first. It may need the interpreter for that.
            py.detach(|| drop(self.at_work.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        self.object.clone_ref(py)
    }
}

/// Where the session of a connection is kept for the next, and under which name.
type Resumption = Option<(Arc<Sessions>, String)>;

/// The host of one session.
struct Owner {
    object: Arc<SslObject>,
    resumption: Resumption,
}

impl SessionHost for Owner {
    type Session = Session;

    fn enter<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        background::unless_exiting(|is_engine| {
            if !is_engine {
                return work();
            }
            let at_work = self.object.at_work.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.object.is_shared.load(Ordering::SeqCst) {
                return work();
            }
            drop(at_work);
            // The object's methods and the engine take turns: by the GIL, or by the lock that they take without it.
            Python::attach(|py| match self.object.object.bind(py).getattr(intern!(py, "_sslobj")) {
                Ok(inner) => with_critical_section(&inner, work),
                Err(_) => work(),
            })
        })
    }

    fn failure(&self, error: PyErr) -> TlsFailure {
        Python::attach(|py| failure(py, error))
    }

    fn protocol(&self, session: &Session) -> Option<Vec<u8>> {
        Python::attach(|py| {
            let selected = session.object().bind(py).call_method0(intern!(py, "selected_alpn_protocol")).ok()?;
            selected.extract::<Option<String>>().ok()?.map(String::into_bytes)
        })
    }

    fn first_data(&self, session: &mut Session) {
        let Some((sessions, server_name)) = &self.resumption else { return };
        Python::attach(|py| {
            // There is none where the server gave none, which is no fault.
            if let Ok(given) = session.object().bind(py).getattr(intern!(py, "session")) {
                if !given.is_none() {
                    sessions.keep(server_name, given.unbind());
                }
            }
        });
    }

    fn facts(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.object.clone())
    }
}
