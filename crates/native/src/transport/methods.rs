//! What Python sees of a transport.

use aioxide::driver::socket;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use super::{Facts, SocketTransport, State, Transport};
use crate::errors::os_error;
use crate::event_loop::Loop;

#[pymethods]
impl SocketTransport {
    /// Transports are made by their loop: `loop._make_socket_transport()`.
    #[new]
    #[pyo3(signature = (event_loop, sock, protocol, waiter=None, extra=None, server=None, context=None))]
    fn new(
        event_loop: &Bound<'_, Loop>,
        sock: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        waiter: Option<Bound<'_, PyAny>>,
        extra: Option<&Bound<'_, PyDict>>,
        server: Option<Bound<'_, PyAny>>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<Self>> {
        let facts = Facts::of(sock, extra)?;
        Self::open(event_loop, sock, protocol, waiter, facts, server, context).map(Bound::unbind)
    }

    /// Sends data; never blocks, keeps what the socket does not take.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_data(slf, data)
    }

    /// Sends several pieces of data at once.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let pieces = PyTuple::new(slf.py(), list_of_data.try_iter()?.collect::<PyResult<Vec<_>>>()?)?;
        Self::write_pieces(slf, &pieces)
    }

    /// Says to the peer that no more will be sent, once everything is.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        {
            let mut state = this.state.borrow_mut(slf.py());
            if state.life.is_closing || state.is_eof_written {
                return Ok(());
            }
            state.is_eof_written = true;
            if !state.buffer.is_empty() {
                return Ok(());
            }
        }
        let fd = this.open_fd(slf.py(), &this.state.borrow(slf.py()))?;
        socket::shutdown_write(fd).map_err(os_error)
    }

    #[expect(clippy::unused_self, reason = "asyncio's interface")]
    fn can_write_eof(&self) -> bool {
        true
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

    /// The protocol hears of no more data until `resume_reading()`.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::set_reading_paused(slf, true)
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::set_reading_paused(slf, false)
    }

    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.replace_protocol(protocol)
    }

    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.borrow(py).life.protocol.as_ref().map(|protocol| protocol.clone_ref(py))
    }

    /// Facts about the connection: `socket`, `sockname`, `peername`, …
    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.facts.dict(py)?.get_item(name)?.or(default))
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

    /// The number of bytes that wait to be sent.
    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.state.borrow(py).buffer.len()
    }

    /// A future that is done once everything is sent; until `_reset_empty_waiter()` nothing else may be written.
    fn _make_empty_waiter(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.state.borrow(py).empty_waiter.is_some() {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = self.event_loop.bind(py).call_method0(intern!(py, "create_future"))?;
        if self.state.borrow(py).buffer.is_empty() {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        self.state.borrow_mut(py).empty_waiter = Some(waiter.clone().unbind());
        Ok(waiter.unbind())
    }

    fn _reset_empty_waiter(&self, py: Python<'_>) {
        let waiter = self.state.borrow_mut(py).empty_waiter.take();
        drop(waiter);
    }

    #[classattr]
    fn _start_tls_compatible() -> bool {
        true
    }

    #[classattr]
    fn _sendfile_compatible(py: Python<'_>) -> PyResult<Py<PyAny>> {
        let modes = py.import("asyncio.constants")?.getattr("_SendfileMode")?;
        Ok(modes.getattr("TRY_NATIVE")?.unbind())
    }

    #[getter(_extra)]
    fn extra(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        self.facts.dict(py).map(Bound::unbind)
    }

    #[getter(_sock)]
    fn sock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.borrow(py).life.sock.as_ref().map(|sock| sock.clone_ref(py))
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

    #[getter(_paused)]
    fn reading_paused(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).life.is_reading_paused
    }

    #[getter(_conn_lost)]
    fn conn_lost(&self, py: Python<'_>) -> u32 {
        self.state.borrow(py).life.lost
    }

    /// `sendfile`'s fallback asks, before it takes the protocol's place.
    #[getter(_protocol_paused)]
    fn protocol_paused(&self, py: Python<'_>) -> bool {
        self.state.borrow(py).life.is_protocol_paused
    }

    /// `isinstance(transport, asyncio.Transport)` holds.
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
