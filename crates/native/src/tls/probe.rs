//! Whether libssl may be called directly: proved at first use, on an object that is thrown away.
//!
//! Nothing that was guessed is ever followed. The library itself tells where the `SSL` is that a new `SSLObject` made
//! it create; only when the word of the object that should hold the pointer holds that very address, and the library
//! knows the object as the owner, and a handshake begun through our own BIO yields a ClientHello, is the direct way
//! taken. From then on each object is checked again: its type is the one that was proved, and its `SSL` knows it.

use std::sync::OnceLock;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::libssl::{Libssl, SslRef, VersionNumber};
use super::pipes::Pipes;
use crate::raw;

/// The word of a `_ssl._SSLSocket`, counted from the end of its object head, that points to its `SSL`.
const SSL_WORD: usize = 1;
/// `AIOXIDE_TLS`: which engine to use.
const CHOICE_VARIABLE: &str = "AIOXIDE_TLS";

static LIBRARY: OnceLock<Libssl> = OnceLock::new();
static PROVED: OnceLock<Result<Proved, String>> = OnceLock::new();

/// What the proof left: all that a session needs to be made.
pub struct Proved {
    pub libssl: &'static Libssl,
    /// `_ssl._SSLSocket`.
    class: Py<PyType>,
    /// BIOs that every `wrap_bio()` gets, to be replaced at once: nothing flows through them.
    pub bios: (Py<PyAny>, Py<PyAny>),
}

/// The library, if it was ever opened.
pub fn opened() -> Option<&'static Libssl> {
    LIBRARY.get()
}

/// Whether libssl can be called directly, or why it cannot.
pub fn proved(py: Python<'_>) -> Result<&'static Proved, &'static str> {
    let verdict = match PROVED.get() {
        Some(verdict) => verdict,
        None => {
            // Proved outside of the lock, since it runs Python code; the first verdict counts.
            let verdict = prove(py);
            PROVED.get_or_init(|| verdict)
        }
    };
    verdict.as_ref().map_err(String::as_str)
}

/// The engine that the environment and the proof leave: `Some` for libssl.
pub fn chosen(py: Python<'_>) -> PyResult<Option<&'static Proved>> {
    let Some(choice) = std::env::var_os(CHOICE_VARIABLE) else { return Ok(proved(py).ok()) };
    match choice.to_str() {
        Some("") => Ok(proved(py).ok()),
        Some("stdlib") => Ok(None),
        Some("libssl") => proved(py)
            .map(Some)
            .map_err(|reason| PyRuntimeError::new_err(format!("{CHOICE_VARIABLE}=libssl cannot be had: {reason}"))),
        _ => Err(PyValueError::new_err(format!(
            "{CHOICE_VARIABLE} may be libssl or stdlib, not {}",
            choice.to_string_lossy()
        ))),
    }
}

impl Proved {
    /// The `SSL` of an `SSLObject`'s inner object, if that is of the proved kind.
    pub fn ssl_of(&self, inner: &Bound<'_, PyAny>) -> Option<SslRef> {
        let py = inner.py();
        if !inner.get_type().is(self.class.bind(py)) {
            return None;
        }
        // SAFETY: objects of this type hold their `SSL` there, which was proved.
        let ssl = unsafe { SslRef::at(raw::object_word(inner, SSL_WORD)?) }?;
        // SAFETY: the object lives, and keeps its `SSL` alive.
        let owner = unsafe { self.libssl.owner(ssl) };
        std::ptr::eq(owner, inner.as_ptr().cast()).then_some(ssl)
    }
}

fn prove(py: Python<'_>) -> Result<Proved, String> {
    let words = |error: PyErr| error.to_string();
    let ssl = py.import("ssl").map_err(words)?;
    let module = py.import("_ssl").map_err(words)?;
    let path: String = match module.getattr("__file__") {
        Ok(path) => path.extract().map_err(words)?,
        Err(_) => return Err("_ssl is built into the interpreter".to_owned()),
    };
    let name: String = ssl.getattr("OPENSSL_VERSION").and_then(|name| name.extract()).map_err(words)?;
    if !name.starts_with("OpenSSL ") {
        return Err(format!("the ssl module uses {name}"));
    }
    let version: VersionNumber =
        ssl.getattr("OPENSSL_VERSION_NUMBER").and_then(|number| number.extract()).map_err(words)?;
    let library = Libssl::open(&path, version)?;
    prove_layout(&ssl, &module, LIBRARY.get_or_init(|| library)).map_err(words)?
}

/// Makes a client's `SSLObject`, and compares what it holds with what the library says.
fn prove_layout(
    ssl: &Bound<'_, PyModule>,
    module: &Bound<'_, PyModule>,
    libssl: &'static Libssl,
) -> PyResult<Result<Proved, String>> {
    let py = ssl.py();
    let context = ssl.getattr("SSLContext")?.call1((ssl.getattr("PROTOCOL_TLS_CLIENT")?,))?;
    let bios = (ssl.getattr("MemoryBIO")?.call0()?, ssl.getattr("MemoryBIO")?.call0()?);
    let (object, created) = libssl.created_by(|| {
        context
            .call_method1("wrap_bio", (&bios.0, &bios.1, false, "probe.invalid"))
            .and_then(|it| it.getattr("_sslobj"))
    });
    let inner = object?;
    let Some(created) = created else { return Ok(Err("wrap_bio() does not make one SSL".to_owned())) };
    let class = module.getattr("_SSLSocket")?.cast_into::<PyType>()?;
    if !inner.get_type().is(&class) {
        return Ok(Err("an SSLObject's inner object is no _ssl._SSLSocket".to_owned()));
    }
    if !raw::object_word(&inner, SSL_WORD).is_some_and(|address| created.is_at(address)) {
        return Ok(Err("the SSL is not where it is looked for".to_owned()));
    }
    let proved = Proved { libssl, class: class.unbind(), bios: (bios.0.clone().unbind(), bios.1.clone().unbind()) };
    let Some(found) = proved.ssl_of(&inner) else {
        return Ok(Err("the SSL does not know its owner".to_owned()));
    };
    let pipes = Pipes::new();
    // SAFETY: `inner` keeps the SSL alive, and nobody else has it.
    if let Err(reason) = unsafe { libssl.attach(found, pipes.clone()) } {
        return Ok(Err(reason.to_owned()));
    }
    let hello = inner.call_method0(intern!(py, "do_handshake"));
    let waits = hello.is_err_and(|error| {
        ssl.getattr("SSLWantReadError").is_ok_and(|class| error.matches(py, class).unwrap_or(false))
    });
    // SAFETY: nobody else has the SSL.
    let begins_well = unsafe { pipes.with(|ends| ends.output.starts_with(&[0x16, 3])) };
    if !waits || !begins_well {
        return Ok(Err("a handshake through a BIO of ours does not begin".to_owned()));
    }
    Ok(Ok(proved))
}
