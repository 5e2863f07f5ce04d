//! Which descriptor is watched for whom.

mod sockets;

use std::os::fd::RawFd;

use aioxide::LoopHandle;
use aioxide::driver::{Interest, Readiness, Trigger};
use aioxide::reactor::SourceKey;
use pyo3::PyClass;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyInt;

use crate::datagram::DatagramTransport;
use crate::errors::os_error;
use crate::event_loop::Loop;
use crate::handle::{Call, Handle};
use crate::transport::{SocketTransport, Transport};

pub use sockets::wake;

/// Why a descriptor is watched.
enum Watch {
    /// For callbacks and operations that wait for readiness. Boxed, since there are more transports than these.
    Waiting(Box<Waiting>),
    /// For a transport, which keeps it alive: a connection lives as long as its loop, not as its last reference.
    Transport(Owner),
}

/// A transport that owns a descriptor.
pub enum Owner {
    Stream(Py<SocketTransport>),
    Datagram(Py<DatagramTransport>),
}

impl Owner {
    pub fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Stream(transport) => transport.as_any(),
            Self::Datagram(transport) => transport.as_any(),
        }
    }

    /// What the transport calls, if it still does.
    pub fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Stream(transport) => transport.get().protocol(py),
            Self::Datagram(transport) => transport.get().protocol(py),
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Stream(transport) => Self::Stream(transport.clone_ref(py)),
            Self::Datagram(transport) => Self::Datagram(transport.clone_ref(py)),
        }
    }
}

/// A transport, as its watch sees it.
pub trait Watching: PyClass<Frozen = True> + Sync {
    fn event_loop(&self) -> &Py<Loop>;

    /// What it wants to be watched now, under its key, if it still has one.
    fn wanted(&self, py: Python<'_>) -> (Option<SourceKey>, Interest);

    /// Ends it, because it cannot be watched.
    fn fail(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()>;

    /// Has the reactor watch what is wanted now.
    fn update_interest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let event_loop = slf.get().event_loop().bind(slf.py());
        match event_loop.get().reach(slf.py()) {
            Ok(Some(engine)) => watch(slf, engine.handle()),
            Ok(None) => {
                let transport = slf.clone().unbind();
                Loop::on_loop(event_loop, move |event_loop, engine| {
                    let transport = transport.bind(event_loop.py());
                    let result = watch(transport, engine.handle()).or_else(|error| Self::fail(transport, error));
                    if let Err(error) = result {
                        error.write_unraisable(event_loop.py(), Some(transport.as_any()));
                    }
                });
                Ok(())
            }
            // A closed loop watches nothing.
            Err(_closed) => Ok(()),
        }
    }
}

fn watch<T: Watching>(transport: &Bound<'_, T>, handle: &LoopHandle) -> PyResult<()> {
    let (Some(key), interest) = transport.get().wanted(transport.py()) else { return Ok(()) };
    match handle.set_interest(key, interest) {
        // The number was closed behind our back and taken over by somebody else.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(os_error),
    }
}

/// Who waits for a descriptor, one for each direction.
struct Waiting {
    fd: RawFd,
    /// The file object that was given for the number: a closed one, which has no number any more, is found by it.
    file: Option<Py<PyAny>>,
    reader: Option<Waiter>,
    writer: Option<Waiter>,
    /// Set while only operations of this socket wait; then the watch is edge-triggered, and outlives them.
    socket: Option<sockets::KeptSocket>,
}

/// Somebody who waits for readiness.
pub enum Waiter {
    /// A callback of `add_reader` or `add_writer`, until it is removed.
    Handle(Py<Handle>),
    /// The future of an operation such as `sock_recv`, once.
    Future(Py<PyAny>),
}

impl Waiter {
    /// Another waits instead. As in asyncio, an operation is not told.
    fn cancel(self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Handle(handle) => handle.bind(py).call_method0(intern!(py, "cancel")).map(drop),
            Self::Future(_) => Ok(()),
        }
    }
}

impl Waiting {
    fn new(fd: RawFd, socket: Option<sockets::KeptSocket>) -> Self {
        Self { fd, file: None, reader: None, writer: None, socket }
    }

    fn place(&mut self, for_reading: bool) -> &mut Option<Waiter> {
        if for_reading { &mut self.reader } else { &mut self.writer }
    }

    fn interest_of_waiters(&self) -> Interest {
        Interest { readable: self.reader.is_some(), writable: self.writer.is_some() }
    }

    /// Whom readiness concerns. Callbacks stay, operations are taken out.
    fn pick(&mut self, py: Python<'_>, readiness: Readiness) -> [Option<Waiter>; 2] {
        let pick = |ready: bool, place: &mut Option<Waiter>| match place {
            Some(Waiter::Handle(handle)) if ready => Some(Waiter::Handle(handle.clone_ref(py))),
            Some(Waiter::Future(_)) if ready => place.take(),
            _ => None,
        };
        [pick(readiness.readable, &mut self.reader), pick(readiness.writable, &mut self.writer)]
    }
}

/// Whom an event concerns.
pub enum Watched {
    Nothing,
    Waiters([Option<Waiter>; 2]),
    Transport(Owner),
}

/// Whose work on a ready source is, for the timeline.
pub enum Subject {
    Transport(Owner),
    Handle(Py<Handle>),
}

type Entry = (SourceKey, Watch);

/// The watches of one loop, by the reactor's key and by descriptor.
#[derive(Default)]
pub struct Watches {
    by_key: Vec<Option<Entry>>,
    by_fd: Vec<Option<SourceKey>>,
}

impl Watches {
    /// Watches `fd` for a handle, in place of an earlier one for the same direction.
    pub fn add_handle(
        event_loop: &Bound<'_, Loop>,
        file: &Bound<'_, PyAny>,
        call: Call,
        for_reading: bool,
    ) -> PyResult<Py<Handle>> {
        let py = event_loop.py();
        let handles = event_loop.get().loop_handle(py)?;
        let fd = descriptor(file)?;
        let file = (!file.is_instance_of::<PyInt>()).then(|| file.clone().unbind());
        let handle = Handle::build(event_loop, call)?.unbind();
        Self::settle(event_loop, fd)?;
        let (replaced, last_file) = {
            let waiter = Some(Waiter::Handle(handle.clone_ref(py)));
            let mut watches = event_loop.get().watches.borrow_mut(py);
            match watches.key_of(fd) {
                Some(key) => {
                    let Some(Watch::Waiting(waiting)) = watches.get_mut(key) else {
                        return Err(PyRuntimeError::new_err("the file descriptor is used by a transport"));
                    };
                    let mut wanted = waiting.interest_of_waiters();
                    *(if for_reading { &mut wanted.readable } else { &mut wanted.writable }) = true;
                    renew(&handles, key, wanted)?;
                    let last_file = file.and_then(|file| waiting.file.replace(file));
                    (std::mem::replace(waiting.place(for_reading), waiter), last_file)
                }
                None => {
                    let interest = if for_reading { Interest::READABLE } else { Interest::WRITABLE };
                    let key = handles.add_host_source(fd, interest, Trigger::Level)?;
                    let mut waiting = Box::new(Waiting::new(fd, None));
                    waiting.file = file;
                    *waiting.place(for_reading) = waiter;
                    watches.insert(key, fd, Watch::Waiting(waiting));
                    (None, None)
                }
            }
        };
        drop(last_file);
        if let Some(replaced) = replaced {
            replaced.cancel(py)?;
        }
        Ok(handle)
    }

    /// Stops watching a file in one direction; whether it was watched.
    pub fn remove_handle(event_loop: &Bound<'_, Loop>, file: &Bound<'_, PyAny>, for_reading: bool) -> PyResult<bool> {
        let py = event_loop.py();
        if event_loop.get().check_open().is_err() {
            return Ok(false);
        }
        let handles = event_loop.get().loop_handle(py)?;
        let fd =
            descriptor(file).or_else(|closed| event_loop.get().watches.borrow(py).number_of(file).ok_or(closed))?;
        Self::settle(event_loop, fd)?;
        let (removed, forgotten) = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let Some(key) = watches.key_of(fd) else { return Ok(false) };
            let Some(Watch::Waiting(waiting)) = watches.get_mut(key) else { return Ok(false) };
            let removed = waiting.place(for_reading).take();
            (removed, watches.update(&handles, fd))
        };
        drop(forgotten);
        let Some(removed) = removed else { return Ok(false) };
        removed.cancel(py)?;
        Ok(true)
    }

    /// Watches what those who wait for `fd` want, or no longer, if nobody does: then the entry is given back, for
    /// dropping once the table is no longer borrowed.
    #[must_use]
    fn update(&mut self, handles: &LoopHandle, fd: RawFd) -> Option<Entry> {
        let key = self.key_of(fd)?;
        let Some(Watch::Waiting(waiting)) = self.get(key) else { return None };
        let wanted = waiting.interest_of_waiters();
        if wanted == Interest::NONE {
            handles.remove_source(key);
            self.forget(key, fd)
        } else {
            // The descriptor may be closed already, and then the kernel has forgotten it.
            let _closed = handles.set_interest(key, wanted);
            None
        }
    }

    /// The number under which a file object is watched, whether or not it is still its own.
    fn number_of(&self, file: &Bound<'_, PyAny>) -> Option<RawFd> {
        self.by_key.iter().flatten().find_map(|(_, watch)| match watch {
            Watch::Waiting(waiting) if waiting.file.as_ref().is_some_and(|stored| stored.is(file)) => Some(waiting.fd),
            _ => None,
        })
    }

    /// Watches `fd` for a transport. An entry left by a descriptor that was closed without a word is replaced.
    pub fn add_transport(event_loop: &Bound<'_, Loop>, fd: RawFd, transport: Owner) -> PyResult<SourceKey> {
        let py = event_loop.py();
        let handles = event_loop.get().loop_handle(py)?;
        let (key, stale) = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let stale = watches.key_of(fd).and_then(|key| {
                handles.remove_source(key);
                watches.forget(key, fd)
            });
            let key = handles.add_host_source(fd, Interest::NONE, Trigger::Level)?;
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

    /// At the end of the loop: closes the connections that nobody but the loop knows of.
    pub fn abandon_unknown(&self, py: Python<'_>) {
        for (_, watch) in self.by_key.iter().flatten() {
            if let Watch::Transport(Owner::Stream(transport)) = watch {
                transport.get().abandon_unknown(py);
            }
        }
    }

    /// Who is told of `fd`, for reading and for writing: a handle, a future, or a transport.
    pub fn watchers_of(&self, py: Python<'_>, fd: RawFd) -> Option<[Option<Py<PyAny>>; 2]> {
        let watchers = match self.get(self.key_of(fd)?)? {
            Watch::Waiting(waiting) => [&waiting.reader, &waiting.writer].map(|waiter| match waiter {
                Some(Waiter::Handle(handle)) => Some(handle.clone_ref(py).into_any()),
                Some(Waiter::Future(future)) => Some(future.clone_ref(py)),
                None => None,
            }),
            Watch::Transport(transport) => {
                let interest = match transport {
                    Owner::Stream(transport) => transport.get().wanted(py).1,
                    Owner::Datagram(transport) => transport.get().wanted(py).1,
                };
                [interest.readable, interest.writable].map(|watched| watched.then(|| transport.object().clone_ref(py)))
            }
        };
        watchers.iter().any(Option::is_some).then_some(watchers)
    }

    /// The transport that owns `fd`.
    pub fn transport_of(&self, py: Python<'_>, fd: RawFd) -> Option<Py<PyAny>> {
        match self.get(self.key_of(fd)?)? {
            Watch::Transport(transport) => Some(transport.object().clone_ref(py)),
            Watch::Waiting(_) => None,
        }
    }

    /// Whether a transport owns `fd`.
    pub fn has_transport(&self, fd: RawFd) -> bool {
        matches!(self.key_of(fd).and_then(|key| self.get(key)), Some(Watch::Transport(_)))
    }

    /// Whose the work on `key` will be; `None` for an operation, whose task goes on by itself.
    pub fn subject(event_loop: &Bound<'_, Loop>, key: SourceKey) -> Option<Subject> {
        let py = event_loop.py();
        match event_loop.get().watches.borrow(py).get(key)? {
            Watch::Transport(transport) => Some(Subject::Transport(transport.clone_ref(py))),
            Watch::Waiting(waiting) => {
                [&waiting.reader, &waiting.writer].into_iter().flatten().find_map(|waiter| match waiter {
                    Waiter::Handle(handle) => Some(Subject::Handle(handle.clone_ref(py))),
                    Waiter::Future(_) => None,
                })
            }
        }
    }

    /// Whom an event of `key` concerns.
    pub fn ready(event_loop: &Bound<'_, Loop>, key: SourceKey, readiness: Readiness) -> PyResult<Watched> {
        let py = event_loop.py();
        let (watched, fd, is_kept) = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let waiting = match watches.get_mut(key) {
                None => return Ok(Watched::Nothing),
                Some(Watch::Transport(transport)) => return Ok(Watched::Transport(transport.clone_ref(py))),
                Some(Watch::Waiting(waiting)) => waiting,
            };
            let before = waiting.interest_of_waiters();
            let watched = Watched::Waiters(waiting.pick(py, readiness));
            let is_kept = waiting.socket.is_some();
            // The usual: somebody waited for a kept watch, or callbacks stay where they are.
            let is_usual = if is_kept { before != Interest::NONE } else { before == waiting.interest_of_waiters() };
            if is_usual {
                return Ok(watched);
            }
            (watched, waiting.fd, is_kept)
        };
        if is_kept {
            // Somebody else uses the socket, or it was closed while a duplicate lives on: do not wake up for it again.
            Self::settle(event_loop, fd)?;
        } else {
            let handles = event_loop.get().loop_handle(py)?;
            let forgotten = event_loop.get().watches.borrow_mut(py).update(&handles, fd);
            drop(forgotten);
        }
        Ok(watched)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for (_, watch) in self.by_key.iter().flatten() {
            match watch {
                Watch::Waiting(waiting) => {
                    visit.call(&waiting.file)?;
                    for waiter in [&waiting.reader, &waiting.writer].into_iter().flatten() {
                        match waiter {
                            Waiter::Handle(handle) => visit.call(handle)?,
                            Waiter::Future(future) => visit.call(future)?,
                        }
                    }
                }
                Watch::Transport(transport) => visit.call(transport.object())?,
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

    fn get_mut(&mut self, key: SourceKey) -> Option<&mut Watch> {
        self.by_key.get_mut(key.index())?.as_mut().filter(|(stored, _)| *stored == key).map(|(_, watch)| watch)
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
    fn forget(&mut self, key: SourceKey, fd: RawFd) -> Option<Entry> {
        if let Some(place) = usize::try_from(fd).ok().and_then(|fd| self.by_fd.get_mut(fd)) {
            if *place == Some(key) {
                *place = None;
            }
        }
        let place = self.by_key.get_mut(key.index())?;
        place.take_if(|(stored, _)| *stored == key)
    }
}

/// Watches a source for somebody new. The kernel is asked even if nothing changes: the number may have been closed
/// without a word, and be another file's now.
fn renew(handles: &LoopHandle, key: SourceKey, wanted: Interest) -> std::io::Result<()> {
    if handles.interest(key) == Some(wanted) {
        handles.set_interest(key, Interest::NONE)?;
    }
    handles.set_interest(key, wanted)
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
