//! Watches of sockets whose operations (`sock_recv` and its kin) wait.
//!
//! A socket that was watched once stays registered with the kernel, edge-triggered, so that the next wait costs no
//! system call: an operation waits only after the kernel has said "would block", and what comes after that makes a new
//! edge. Nobody tells us when such a socket is closed, so the watch refers weakly to the socket *object*: a number
//! that comes back with another object is another socket, and one whose object is gone, or has another number, is never
//! touched in the kernel. An event that nobody waits for ends the watch.

use std::os::fd::RawFd;

use aioxide::driver::{Interest, Trigger};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::{Waiter, Waiting, Watch, Watches};
use crate::event_loop::Loop;

/// The socket of a watch that stays registered between operations.
pub struct KeptSocket {
    object: Py<PyWeakrefReference>,
    interest: Interest,
}

impl KeptSocket {
    fn is(&self, sock: &Bound<'_, PyAny>) -> bool {
        self.object.bind(sock.py()).upgrade().is_some_and(|object| object.is(sock))
    }
}

impl Watches {
    /// Resolves `future` when `sock` is ready, once, in place of whoever waited for that direction before. `false` if
    /// nobody watches the socket yet: that is [`Watches::add_future`]'s to do.
    pub fn put_future(
        event_loop: &Bound<'_, Loop>,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        for_reading: bool,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let py = event_loop.py();
        let handles = event_loop.get().loop_handle(py)?;
        let replaced = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let Some(key) = watches.key_of(fd) else { return Ok(false) };
            let Some(Watch::Waiting(waiting)) = watches.get_mut(key) else { return Ok(false) };
            if waiting.socket.as_ref().is_some_and(|kept| !kept.is(sock)) {
                return Ok(false);
            }
            let replaced = waiting.place(for_reading).replace(Waiter::Future(future.clone().unbind()));
            let interest = waiting.interest();
            let is_watched = match &mut waiting.socket {
                Some(kept) => std::mem::replace(&mut kept.interest, interest) == interest,
                None => false,
            };
            if !is_watched {
                super::renew(&handles, key, interest)?;
            }
            replaced
        };
        replaced.map_or(Ok(()), |waiter| waiter.cancel(py))?;
        Ok(true)
    }

    /// As [`Watches::put_future`], for a socket that was not watched before.
    pub fn add_future(
        event_loop: &Bound<'_, Loop>,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        for_reading: bool,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        let handles = event_loop.get().loop_handle(py)?;
        // Made before the table is borrowed: an allocation may run a finalizer.
        let object = PyWeakrefReference::new(sock)?.unbind();
        let closed = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            if watches.has_transport(fd) {
                return Err(PyRuntimeError::new_err("the file descriptor is used by a transport"));
            }
            let closed = watches.key_of(fd).and_then(|key| {
                handles.remove_source(key);
                watches.forget(key, fd)
            });
            let interest = if for_reading { Interest::READABLE } else { Interest::WRITABLE };
            let key = handles.add_host_source(fd, interest, Trigger::Edge)?;
            let mut waiting = Box::new(Waiting::new(fd, Some(KeptSocket { object, interest })));
            *waiting.place(for_reading) = Some(Waiter::Future(future.clone().unbind()));
            watches.insert(key, fd, Watch::Waiting(waiting));
            closed
        };
        Self::wake_all(py, closed)
    }

    /// Stops waiting for `future`, if it is still waited for. A kept watch stays: the kernel is not asked.
    pub fn remove_future(
        event_loop: &Bound<'_, Loop>,
        sock: &Bound<'_, PyAny>,
        fd: RawFd,
        for_reading: bool,
        future: &Py<PyAny>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        let (removed, is_kept) = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let Some(key) = watches.key_of(fd) else { return Ok(()) };
            let Some(Watch::Waiting(waiting)) = watches.get_mut(key) else { return Ok(()) };
            let place = waiting.place(for_reading);
            let removed = place.take_if(|waiter| matches!(waiter, Waiter::Future(stored) if stored.is(future)));
            (removed, waiting.socket.is_some())
        };
        if removed.is_none() || is_kept || number(sock) != Some(fd) {
            return Ok(());
        }
        drop(removed);
        let handles = event_loop.get().loop_handle(py)?;
        let forgotten = event_loop.get().watches.borrow_mut(py).update(&handles, fd);
        drop(forgotten);
        Ok(())
    }

    /// Makes an ordinary watch, which lasts as long as somebody waits, of the one that is kept for `fd`, if one is.
    /// Who waits for a socket that was closed meanwhile is woken, and finds that out by trying.
    pub fn settle(event_loop: &Bound<'_, Loop>, fd: RawFd) -> PyResult<()> {
        let py = event_loop.py();
        let kept = event_loop.get().watches.borrow(py).kept(py, fd);
        let Some(object) = kept else { return Ok(()) };
        let handles = event_loop.get().loop_handle(py)?;
        let is_open = object.bind(py).upgrade().and_then(|sock| number(&sock)) == Some(fd);
        let forgotten = {
            let mut watches = event_loop.get().watches.borrow_mut(py);
            let Some(key) = watches.key_of(fd) else { return Ok(()) };
            if is_open {
                handles.remove_source(key);
            } else {
                handles.forget_source(key);
            }
            match watches.forget(key, fd) {
                Some((_, Watch::Waiting(mut waiting)))
                    if is_open && waiting.interest_of_waiters() != Interest::NONE =>
                {
                    let interest = waiting.interest_of_waiters();
                    waiting.socket = None;
                    let key = handles.add_host_source(fd, interest, Trigger::Level)?;
                    watches.insert(key, fd, Watch::Waiting(waiting));
                    None
                }
                forgotten => forgotten,
            }
        };
        Self::wake_all(py, forgotten)
    }

    /// How many of the watches are of sockets that were closed without a word.
    pub fn closed_count(event_loop: &Bound<'_, Loop>) -> usize {
        let py = event_loop.py();
        let kept: Vec<_> = {
            let watches = event_loop.get().watches.borrow(py);
            let kept = |entry: &super::Entry| match &entry.1 {
                Watch::Waiting(waiting) => waiting.socket.as_ref().map(|kept| (waiting.fd, kept.object.clone_ref(py))),
                Watch::Transport(_) => None,
            };
            watches.by_key.iter().flatten().filter_map(kept).collect()
        };
        let is_closed = |(fd, object): &(RawFd, Py<PyWeakrefReference>)| {
            object.bind(py).upgrade().and_then(|sock| number(&sock)) != Some(*fd)
        };
        kept.iter().filter(|kept| is_closed(kept)).count()
    }

    fn kept(&self, py: Python<'_>, fd: RawFd) -> Option<Py<PyWeakrefReference>> {
        match self.get(self.key_of(fd)?)? {
            Watch::Waiting(waiting) => waiting.socket.as_ref().map(|kept| kept.object.clone_ref(py)),
            Watch::Transport(_) => None,
        }
    }

    fn wake_all(py: Python<'_>, watch: Option<super::Entry>) -> PyResult<()> {
        let Some((_, Watch::Waiting(waiting))) = watch else { return Ok(()) };
        let Waiting { reader, writer, .. } = *waiting;
        for waiter in [reader, writer].into_iter().flatten() {
            if let Waiter::Future(future) = waiter {
                wake(future.bind(py))?;
            }
        }
        Ok(())
    }
}

impl Waiting {
    pub(super) fn interest(&self) -> Interest {
        let mut interest = self.interest_of_waiters();
        if let Some(kept) = &self.socket {
            interest.readable |= kept.interest.readable;
            interest.writable |= kept.interest.writable;
        }
        interest
    }
}

/// The number of a socket's descriptor now.
fn number(sock: &Bound<'_, PyAny>) -> Option<RawFd> {
    sock.call_method0(intern!(sock.py(), "fileno")).ok()?.extract().ok()
}

/// Resolves a future that nobody has cancelled.
pub fn wake(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}
