//! What Python sees of a datagram transport.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::{DatagramTransport, State};
use crate::event_loop::{Loop, SCRATCH_BYTES};
use crate::transport::Transport;

#[pymethods]
impl DatagramTransport {
    /// Transports are made by their loop: `loop._make_datagram_transport()`.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, address=None, waiter=None, extra=None))]
    fn new(
        event_loop: &Bound<'_, Loop>,
        sock: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        address: Option<Bound<'_, PyAny>>,
        waiter: Option<Bound<'_, PyAny>>,
        extra: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Self>> {
        Self::open(event_loop, sock, protocol, address, waiter, extra).map(Bound::unbind)
    }

    /// Sends a datagram to `addr`, or to the only peer; never blocks, keeps what the socket does not take.
    #[pyo3(signature = (data, addr=None))]
    fn sendto(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>, addr: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::send_to(slf, data, addr)
    }

    /// Closes once everything is sent; the protocol then hears `connection_lost(None)`.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_gently(slf)
    }

    /// Closes at once; the protocol hears `connection_lost(None)`.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_hard(slf, None)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Py<PyAny>>) -> PyResult<()> {
        Self::close_hard(slf, exc)
    }

    #[pyo3(signature = (exc, message="Fatal error on transport"))]
    fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        Self::fatal_error(slf, PyErr::from_value(exc), message)
    }

    fn is_closing(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).life.is_closing
    }

    fn is_reading(&self, py: Python<'_>) -> bool {
        Transport::is_reading(self, py)
    }

    /// The protocol hears of no more datagrams until `resume_reading()`.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::set_reading_paused(slf, true)
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::set_reading_paused(slf, false)
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) {
        let old = self.state.borrow_mut(protocol.py()).life.protocol.replace(protocol.clone().unbind());
        drop(old);
    }

    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol(py).map(Bound::unbind)
    }

    /// Facts about the endpoint: `socket`, `sockname`, `peername`, …
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.extra.bind(py).get_item(name)?.or(default))
    }

    /// The protocol is held back above `high` bytes and released at `low`.
    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(slf: &Bound<'_, Self>, high: Option<isize>, low: Option<isize>) -> PyResult<()> {
        Self::set_limits(slf, high, low)
    }

    /// The marks as (low, high).
    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        let state = self.state.borrow(py);
        (state.life.low_water_bytes, state.life.high_water_bytes)
    }

    /// The number of bytes that wait to be sent, with what this Python adds for each datagram.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.state.borrow(py).queue_bytes
    }

    /// The most that is received at once.
    #[classattr]
    fn max_size() -> usize {
        SCRATCH_BYTES
    }

    #[getter(_extra)]
    fn extra(&self, py: Python<'_>) -> Py<PyDict> {
        self.extra.clone_ref(py)
    }

    #[getter(_address)]
    fn only_peer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.address.as_ref().map(|address| address.clone_ref(py))
    }

    #[getter(_sock)]
    fn own_sock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.sock(py).map(Bound::unbind)
    }

    #[getter(_sock_fd)]
    fn sock_fd(&self) -> i32 {
        self.fd
    }

    #[getter(_protocol)]
    fn own_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get_protocol(py)
    }

    #[getter(_loop)]
    fn event_loop(&self, py: Python<'_>) -> Option<Py<Loop>> {
        self.state.borrow(py).life.sock.as_ref().map(|_| self.event_loop.clone_ref(py))
    }

    #[getter(_conn_lost)]
    fn conn_lost(&self, py: Python<'_>) -> u32 {
        self.state.borrow(py).life.lost
    }

    /// `isinstance(transport, asyncio.DatagramTransport)` holds.
    #[getter(__class__)]
    fn class(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        Self::python_class(slf.py(), &CLASS)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.text(py)
    }

    fn __del__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::finalize(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(&self) {
        let life = self.state.take_in_gc().map(|state| state.life.cleared()).unwrap_or_default();
        Python::attach(|py| {
            let mut state = self.state.borrow_mut(py);
            *state = State { life, ..State::default() };
        });
    }
}
