//! Which descriptor is watched for whom.

use std::os::fd::RawFd;

use aioxide::driver::{Interest, Readiness};
use aioxide::reactor::SourceKey;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::event_loop::Loop;
use crate::handle::{Args, Handle};
use crate::transport::SocketTransport;

/// Why a descriptor is watched.
enum Watch {
    /// For `add_reader` and `add_writer`.
    Handles { reader: Option<Py<Handle>>, writer: Option<Py<Handle>> },
    /// For a transport, which keeps it alive: a connection lives as long as its loop, not as its last reference.
    Transport(Py<SocketTransport>),
}

/// Whom an event concerns.
pub enum Watched {
    Nothing,
    Handles([Option<Py<Handle>>; 2]),
    Transport(Py<SocketTransport>),
}

/// The watches of one loop, by the reactor's key and by descriptor.
#[derive(Default)]
pub struct Watches {
    by_key: Vec<Option<(SourceKey, Watch)>>,
    by_fd: Vec<Option<SourceKey>>,
}

impl Watches {
    /// Watches `fd` for a callback, in place of an earlier one for the same direction.
    pub fn add_handle(
        event_loop: &Bound<'_, Loop>,
        fd: &Bound<'_, PyAny>,
        callback: Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        for_reading: bool,
    ) -> PyResult<Py<Handle>> {
        let py = event_loop.py();
        let handles = event_loop.get().loop_handle(py)?;
        let fd = descriptor(fd)?;
        let handle = Py::new(py, Handle::build(event_loop, callback, Args::from_tuple(args), None)?)?;
        let replaced = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            match watches.key_of(fd) {
                Some(key) => {
                    let wanted = watches.wanted(key, for_reading, true);
                    handles.update_interest(key, wanted)?;
                    watches.set_handle(key, for_reading, Some(handle.clone_ref(py)))?
                }
                None => {
                    let interest = if for_reading { Interest::READABLE } else { Interest::WRITABLE };
                    let key = handles.add_host_source(fd, interest)?;
                    let (mut reader, mut writer) = (None, None);
                    *(if for_reading { &mut reader } else { &mut writer }) = Some(handle.clone_ref(py));
                    watches.insert(key, fd, Watch::Handles { reader, writer });
                    None
                }
            }
        };
        if let Some(replaced) = replaced {
            replaced.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        Ok(handle)
    }

    /// Stops watching `fd` in one direction; whether it was watched.
    pub fn remove_handle(event_loop: &Bound<'_, Loop>, fd: &Bound<'_, PyAny>, for_reading: bool) -> PyResult<bool> {
        let py = event_loop.py();
        let Ok(handles) = event_loop.get().loop_handle(py) else { return Ok(false) };
        let fd = descriptor(fd)?;
        let removed = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let Some(key) = watches.key_of(fd) else { return Ok(false) };
            if let Some(Watch::Transport(_)) = watches.get(key) {
                return Ok(false);
            }
            let wanted = watches.wanted(key, for_reading, false);
            let removed = watches.set_handle(key, for_reading, None)?;
            if wanted == Interest::NONE {
                handles.remove_source(key);
                drop(watches.forget(key, fd));
            } else if removed.is_some() {
                // The descriptor may be closed already, and then the kernel has forgotten it.
                let _closed = handles.set_interest(key, wanted);
            }
            removed
        };
        let Some(removed) = removed else { return Ok(false) };
        removed.bind(py).call_method0(intern!(py, "cancel"))?;
        Ok(true)
    }

    /// Watches `fd` for a transport. An entry left by a descriptor that was closed without a word is replaced.
    pub fn add_transport(
        event_loop: &Bound<'_, Loop>,
        fd: RawFd,
        transport: Py<SocketTransport>,
    ) -> PyResult<SourceKey> {
        let py = event_loop.py();
        let handles = event_loop.get().loop_handle(py)?;
        let (key, stale) = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let stale = watches.key_of(fd).and_then(|key| {
                handles.remove_source(key);
                watches.forget(key, fd)
            });
            let key = handles.add_host_source(fd, Interest::NONE)?;
            watches.insert(key, fd, Watch::Transport(transport));
            (key, stale)
        };
        drop(stale);
        Ok(key)
    }

    /// Forgets a transport's descriptor.
    pub fn remove_transport(event_loop: &Bound<'_, Loop>, fd: RawFd, key: SourceKey) {
        let py = event_loop.py();
        let forgotten = {
            Loop::on_loop(event_loop, move |_, engine| engine.handle().remove_source(key));
            event_loop.get().watches.borrow_mut(py).forget(key, fd)
        };
        drop(forgotten);
    }

    /// The transport that owns `fd`.
    pub fn transport_of(&self, py: Python<'_>, fd: RawFd) -> Option<Py<PyAny>> {
        match self.get(self.key_of(fd)?)? {
            Watch::Transport(transport) => Some(transport.clone_ref(py).into_any()),
            Watch::Handles { .. } => None,
        }
    }

    /// Whom an event of `key` concerns.
    pub fn ready(&self, py: Python<'_>, key: SourceKey, readiness: Readiness) -> Watched {
        match self.get(key) {
            None => Watched::Nothing,
            Some(Watch::Transport(transport)) => Watched::Transport(transport.clone_ref(py)),
            Some(Watch::Handles { reader, writer, .. }) => {
                let pick = |ready: bool, handle: &Option<Py<Handle>>| {
                    handle.as_ref().filter(|_| ready).map(|handle| handle.clone_ref(py))
                };
                Watched::Handles([pick(readiness.readable, reader), pick(readiness.writable, writer)])
            }
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for (_, watch) in self.by_key.iter().flatten() {
            match watch {
                Watch::Handles { reader, writer, .. } => {
                    visit.call(reader)?;
                    visit.call(writer)?;
                }
                Watch::Transport(transport) => visit.call(transport)?,
            }
        }
        Ok(())
    }

    fn key_of(&self, fd: RawFd) -> Option<SourceKey> {
        *self.by_fd.get(usize::try_from(fd).ok()?)?
    }

    fn get(&self, key: SourceKey) -> Option<&Watch> {
        self.by_key.get(key.index())?.as_ref().filter(|(stored, _)| *stored == key).map(|(_, watch)| watch)
    }

    /// What `key` must watch once one direction has a handle or has none.
    fn wanted(&self, key: SourceKey, for_reading: bool, present: bool) -> Interest {
        let (mut readable, mut writable) = match self.get(key) {
            Some(Watch::Handles { reader, writer, .. }) => (reader.is_some(), writer.is_some()),
            _ => (false, false),
        };
        *(if for_reading { &mut readable } else { &mut writable }) = present;
        Interest { readable, writable }
    }

    fn set_handle(
        &mut self,
        key: SourceKey,
        for_reading: bool,
        handle: Option<Py<Handle>>,
    ) -> PyResult<Option<Py<Handle>>> {
        match self.by_key.get_mut(key.index()) {
            Some(Some((_, Watch::Handles { reader, writer, .. }))) => {
                let place = if for_reading { reader } else { writer };
                Ok(std::mem::replace(place, handle))
            }
            Some(Some((_, Watch::Transport(_)))) => {
                Err(PyRuntimeError::new_err("the file descriptor is used by a transport"))
            }
            _ => Ok(None),
        }
    }

    fn insert(&mut self, key: SourceKey, fd: RawFd, watch: Watch) {
        let slot = key.index();
        if self.by_key.len() <= slot {
            self.by_key.resize_with(slot + 1, || None);
        }
        self.by_key[slot] = Some((key, watch));
        if let Ok(fd) = usize::try_from(fd) {
            if self.by_fd.len() <= fd {
                self.by_fd.resize(fd + 1, None);
            }
            self.by_fd[fd] = Some(key);
        }
    }

    /// Takes the entry out; it is for dropping once the table is no longer borrowed.
    fn forget(&mut self, key: SourceKey, fd: RawFd) -> Option<impl Sized + use<>> {
        if let Some(place) = usize::try_from(fd).ok().and_then(|fd| self.by_fd.get_mut(fd)) {
            if *place == Some(key) {
                *place = None;
            }
        }
        let place = self.by_key.get_mut(key.index())?;
        place.take_if(|(stored, _)| *stored == key)
    }
}

/// The number of a descriptor, given as such or as an object with `fileno()`.
pub fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let invalid = || PyValueError::new_err(format!("Invalid file object: {object:?}"));
    let fd: RawFd = match object.extract() {
        Ok(fd) => fd,
        Err(_) => {
            object.call_method0(intern!(object.py(), "fileno")).and_then(|fd| fd.extract()).map_err(|_| invalid())?
        }
    };
    if fd < 0 {
        return Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}")));
    }
    Ok(fd)
}
