//! One TLS connection of Python's: libssl directly, or through `SSLObject` and its `MemoryBIO`s.
//!
//! Both have the real `SSLObject`, and both leave to it how handshake and shutdown end: the exceptions that these raise
//! are CPython's business, and happen once in a connection. What happens for every message, reading and writing, goes
//! to libssl where it can, and so do the steps of a handshake.

use std::mem::MaybeUninit;

use aioxide::transport::tls::{self, Input, Progress};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

use super::libssl::{Outcome, SslRef};
use super::pipes::Pipes;
use super::probe::{self, Proved};
use super::warm::Warmth;

/// At most so much goes through `SSLObject` at once.
const STDLIB_CHUNK_BYTES: usize = 64 * 1024;
/// What a record may add to its plaintext of at most 16 KiB.
const RECORD_OVERHEAD_BYTES: usize = 64;
const RECORD_BYTES: usize = 16 * 1024;
const HEADER_BYTES: usize = 5;

/// How ciphertext and plaintext reach the library.
enum Engine {
    Libssl(Direct),
    Stdlib { incoming: Py<PyAny>, outgoing: Py<PyAny> },
}

/// What libssl is called with.
struct Direct {
    proved: &'static Proved,
    ssl: SslRef,
    warmth: Warmth,
    pipes: Pipes,
    /// So much of the peer's first record was read, up to its header.
    heard: usize,
    /// The `_ssl._SSLSocket`, which keeps the `SSL` alive: the last to go.
    inner: Py<PyAny>,
}

/// A TLS connection of the `ssl` module.
pub struct Session {
    object: Py<PyAny>,
    engine: Engine,
}

/// What a session is made from.
pub struct Wanted<'a, 'py> {
    pub context: &'a Bound<'py, PyAny>,
    pub server_side: bool,
    pub server_hostname: Option<&'a Bound<'py, PyAny>>,
}

impl Session {
    /// A session of `wanted.context`.
    pub fn new(wanted: &Wanted<'_, '_>) -> PyResult<Self> {
        let py = wanted.context.py();
        // A context that reports every message calls, and may raise, where only `SSLObject` knows what to do.
        let reports = wanted.context.getattr(intern!(py, "_msg_callback")).is_ok_and(|callback| !callback.is_none());
        match probe::chosen(py)? {
            Some(proved) if !reports => Self::direct(wanted, proved),
            _ => Self::stdlib(wanted),
        }
    }

    fn direct(wanted: &Wanted<'_, '_>, proved: &'static Proved) -> PyResult<Self> {
        let py = wanted.context.py();
        let object = Self::wrap(wanted, proved.bios.0.bind(py), proved.bios.1.bind(py))?;
        let inner = object.getattr(intern!(py, "_sslobj"));
        let Some((inner, ssl)) = inner.ok().and_then(|inner| proved.ssl_of(&inner).map(|ssl| (inner, ssl))) else {
            // A context with a class of its own for SSL objects.
            return Self::stdlib(wanted);
        };
        let pipes = Pipes::new();
        // SAFETY: `inner` keeps the SSL alive; it is new, so that nobody else uses it.
        if unsafe { proved.libssl.attach(ssl, pipes.clone()) }.is_err() {
            return Self::stdlib(wanted);
        }
        let direct = Direct { proved, ssl, warmth: Warmth::new(ssl), pipes, heard: 0, inner: inner.unbind() };
        Ok(Self { object: object.unbind(), engine: Engine::Libssl(direct) })
    }

    fn stdlib(wanted: &Wanted<'_, '_>) -> PyResult<Self> {
        let py = wanted.context.py();
        let class = py.import(intern!(py, "ssl"))?.getattr(intern!(py, "MemoryBIO"))?;
        let (incoming, outgoing) = (class.call0()?, class.call0()?);
        let object = Self::wrap(wanted, &incoming, &outgoing)?.unbind();
        Ok(Self { object, engine: Engine::Stdlib { incoming: incoming.unbind(), outgoing: outgoing.unbind() } })
    }

    fn wrap<'py>(
        wanted: &Wanted<'_, 'py>,
        incoming: &Bound<'py, PyAny>,
        outgoing: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = wanted.context.py();
        let arguments = (incoming, outgoing, wanted.server_side, wanted.server_hostname);
        wanted.context.call_method1(intern!(py, "wrap_bio"), arguments)
    }

    /// The `ssl.SSLObject`.
    pub fn object(&self) -> &Py<PyAny> {
        &self.object
    }

    /// Runs a step that is the `SSLObject`'s own.
    fn step(&self, method: &str) -> PyResult<Progress> {
        let call = || {
            Python::attach(|py| match self.object.bind(py).call_method0(method) {
                Ok(_) => Ok(Progress::Done),
                Err(error) if is_again(py, &error)? => Ok(Progress::Waiting),
                Err(error) => Err(error),
            })
        };
        match &self.engine {
            Engine::Libssl(direct) => direct.warmth.while_busy(call),
            Engine::Stdlib { .. } => call(),
        }
    }
}

/// Whether an error only says that more must come from the peer first; those that asyncio takes so.
fn is_again(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    static AGAIN: PyOnceLock<[Py<PyType>; 2]> = PyOnceLock::new();
    let classes = AGAIN.get_or_try_init(py, || {
        let ssl = py.import("ssl")?;
        let class = |name| PyResult::Ok(ssl.getattr(name)?.cast_into::<PyType>()?.unbind());
        PyResult::Ok([class("SSLWantReadError")?, class("SSLSyscallError")?])
    })?;
    Ok(classes.iter().any(|class| error.get_type(py).is_subclass(class.bind(py)).unwrap_or(false)))
}

/// The exception for a failure that is in the thread's error queue, as CPython words it: a session that has failed
/// reads no more, but reports what it failed with.
fn failure(direct: &Direct) -> PyErr {
    Python::attach(|py| {
        let error = match direct.inner.bind(py).call_method1(intern!(py, "read"), (1,)) {
            Err(error) if !is_again(py, &error).unwrap_or(false) => error,
            _ => {
                match py.import("ssl").and_then(|ssl| ssl.getattr("SSLError")?.call1(("the TLS connection failed",))) {
                    Ok(exception) => PyErr::from_value(exception),
                    Err(error) => error,
                }
            }
        };
        direct.proved.libssl.clear_errors();
        error
    })
}

impl tls::Session for Session {
    type Error = PyErr;

    fn feed<R>(&mut self, ciphertext: &[u8], work: impl FnOnce(&mut Self) -> R) -> R {
        match &self.engine {
            Engine::Libssl(direct) => {
                let pipes = direct.pipes.clone();
                // SAFETY: a session is used by the loop's thread alone, and so is its SSL.
                unsafe { pipes.feed(ciphertext, || work(self)) }
            }
            Engine::Stdlib { incoming, .. } => {
                if !ciphertext.is_empty() {
                    Python::attach(|py| {
                        let bytes = PyBytes::new(py, ciphertext);
                        if let Err(error) = incoming.bind(py).call_method1(intern!(py, "write"), (bytes,)) {
                            // Only where memory is out, or the user wrote an end into the BIO: the session then
                            // misses bytes, and will say so.
                            error.write_unraisable(py, Some(incoming.bind(py)));
                        }
                    });
                }
                work(self)
            }
        }
    }

    fn input_len(&self) -> usize {
        match &self.engine {
            // SAFETY: as in `feed`.
            Engine::Libssl(direct) => unsafe { direct.pipes.with(|ends| ends.input_len()) },
            Engine::Stdlib { incoming, .. } => pending(incoming),
        }
    }

    fn may_have_more(&self) -> bool {
        match &self.engine {
            // SAFETY: as in `feed`; `inner` keeps the SSL alive.
            Engine::Libssl(direct) => self.input_len() > 0 || unsafe { direct.proved.libssl.has_pending(direct.ssl) },
            Engine::Stdlib { .. } => true,
        }
    }

    fn handshake(&mut self) -> PyResult<Progress> {
        let waiting = self.input_len();
        if let Engine::Libssl(Direct { proved, ssl, warmth, heard, .. }) = &self.engine {
            // Where the peer's first record is none of TLS, libssl (since 3.2) fails without having failed for good:
            // asked once more, as below, it would wait for the rest of that record. So `SSLObject` reads its header.
            if waiting == 0 || *heard >= HEADER_BYTES {
                // SAFETY: as in `feed`; `inner` keeps the SSL alive.
                let outcome = warmth.while_busy(|| unsafe { proved.libssl.handshake(*ssl) });
                if outcome == Outcome::Waiting {
                    return Ok(Progress::Waiting);
                }
            }
        }
        // It is asked even where libssl has done all, since callbacks may have failed; and it knows what to raise.
        let progress = self.step("do_handshake");
        let read = waiting.saturating_sub(self.input_len());
        if let Engine::Libssl(direct) = &mut self.engine {
            direct.heard += read;
        }
        progress
    }

    fn read(&mut self, room: &mut [MaybeUninit<u8>]) -> PyResult<Input> {
        match &self.engine {
            Engine::Libssl(direct) => {
                // SAFETY: as in `feed`; `inner` keeps the SSL alive.
                match direct.warmth.while_busy(|| unsafe { direct.proved.libssl.read(direct.ssl, room) }) {
                    Outcome::Done(count) => {
                        direct.warmth.used(direct.proved.libssl);
                        Ok(Input::Data(count))
                    }
                    Outcome::Waiting => Ok(Input::Waiting),
                    Outcome::Closed => Ok(Input::Closed),
                    Outcome::Failed => Err(failure(direct)),
                }
            }
            Engine::Stdlib { .. } => Python::attach(|py| {
                let wanted = room.len().min(STDLIB_CHUNK_BYTES);
                match self.object.bind(py).call_method1(intern!(py, "read"), (wanted,)) {
                    Err(error) if is_again(py, &error)? => Ok(Input::Waiting),
                    Err(error) => Err(error),
                    Ok(data) => {
                        let data = data.cast_into::<PyBytes>()?;
                        let bytes = data.as_bytes();
                        if bytes.is_empty() {
                            return Ok(Input::Closed);
                        }
                        for (place, byte) in room.iter_mut().zip(bytes) {
                            place.write(*byte);
                        }
                        Ok(Input::Data(bytes.len().min(room.len())))
                    }
                }
            }),
        }
    }

    fn write(&mut self, data: &[u8]) -> PyResult<usize> {
        match &self.engine {
            Engine::Libssl(direct) => {
                let wanted = data.len().min(super::OUTPUT_BYTES_MAX);
                let records = wanted / RECORD_BYTES + 1;
                // SAFETY: as in `feed`.
                unsafe { direct.pipes.with(|ends| ends.make_room(wanted + records * RECORD_OVERHEAD_BYTES)) };
                // SAFETY: as in `feed`; `inner` keeps the SSL alive.
                match direct.warmth.while_busy(|| unsafe { direct.proved.libssl.write(direct.ssl, data) }) {
                    Outcome::Done(count) => Ok(count),
                    Outcome::Waiting => Ok(0),
                    Outcome::Closed | Outcome::Failed => Err(failure(direct)),
                }
            }
            Engine::Stdlib { .. } => Python::attach(|py| {
                let chunk = PyBytes::new(py, &data[..data.len().min(STDLIB_CHUNK_BYTES)]);
                match self.object.bind(py).call_method1(intern!(py, "write"), (chunk,)) {
                    Err(error) if is_again(py, &error)? => Ok(0),
                    other => other?.extract(),
                }
            }),
        }
    }

    fn shutdown(&mut self) -> PyResult<Progress> {
        self.step("unwrap")
    }

    fn output_len(&self) -> usize {
        match &self.engine {
            // SAFETY: as in `feed`.
            Engine::Libssl(direct) => unsafe { direct.pipes.with(|ends| ends.output.len()) },
            Engine::Stdlib { outgoing, .. } => pending(outgoing),
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        match &self.engine {
            // SAFETY: as in `feed`.
            Engine::Libssl(direct) => unsafe { direct.pipes.with(|ends| std::mem::take(&mut ends.output)) },
            Engine::Stdlib { outgoing, .. } => Python::attach(|py| {
                let taken = outgoing.bind(py).call_method0(intern!(py, "read"));
                taken.and_then(|bytes| Ok(bytes.cast_into::<PyBytes>()?.as_bytes().to_vec())).unwrap_or_else(|error| {
                    error.write_unraisable(py, Some(outgoing.bind(py)));
                    Vec::new()
                })
            }),
        }
    }
}

/// The bytes in a `MemoryBIO`; it always has that attribute.
fn pending(bio: &Py<PyAny>) -> usize {
    Python::attach(|py| bio.bind(py).getattr(intern!(py, "pending")).and_then(|count| count.extract()).unwrap_or(0))
}
