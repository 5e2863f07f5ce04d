//! The calls into CPython that PyO3 has no safe form for, each behind a safe function.

mod fast_calls;

use std::mem::MaybeUninit;

use pyo3::exceptions::{PyBaseException, PyMemoryError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};

unsafe extern "C" {
    /// Before 3.13 it has an underscore in front, and PyO3 does not show it.
    #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
    fn Py_IsFinalizing() -> std::ffi::c_int;
    /// In CPython's own headers; not every PyO3 of our range shows it.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, length: ffi::Py_ssize_t) -> std::ffi::c_int;
}

pub use fast_calls::*;
pub(crate) use fast_calls::{fast_methods, flag_methods};

/// The address of this thread's state.
pub fn thread_state(_py: Python<'_>) -> usize {
    // SAFETY: attached, so the thread has one.
    unsafe { ffi::PyThreadState_Get() as usize }
}

/// Whether this is the interpreter that the process began with, and no sub-interpreter.
pub fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: attached.
    unsafe { ffi::PyInterpreterState_Get() == ffi::PyInterpreterState_Main() }
}

/// Whether the interpreter is being finalized, so that no thread but the one that does it may attach any more.
pub fn is_finalizing() -> bool {
    // SAFETY: it may be asked from any thread at any time.
    unsafe { Py_IsFinalizing() != 0 }
}

/// A copy of the current `contextvars` context.
#[inline]
pub fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: attached; the call gives a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }.map(Bound::unbind)
}

/// Whether `object` is a `contextvars.Context`.
fn is_context(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached, and `object` is alive.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// A context that was given, once it is known to be one; `None` where `None` was given.
#[inline]
pub fn given_context(context: Bound<'_, PyAny>) -> PyResult<Option<Bound<'_, PyAny>>> {
    if is_context(&context) {
        return Ok(Some(context));
    }
    if context.is_none() {
        return Ok(None);
    }
    let kind = context.get_type().name()?;
    Err(PyTypeError::new_err(format!("context must be a contextvars.Context, not {kind}")))
}

/// Runs `body` inside `context`, which is left again whatever happens.
pub fn in_context<R>(py: Python<'_>, context: &Py<PyAny>, body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    // SAFETY: attached; `context` is a Context (checked where it came in) and outlives the call.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(py));
    }
    let result = body();
    // SAFETY: this thread entered `context` above, and whoever entered another since has left it: `body` is one call
    // into the interpreter, which restores the current context before it returns.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } < 0 {
        let error = PyErr::fetch(py);
        return result.and(Err(error));
    }
    result
}

/// `context.run(callback)` or `context.run(callback, arg)`, whose result nobody wants.
#[inline]
pub fn call_in_context(
    context: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    arg: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    // The first place is the callee's to use: a bound method puts its object there.
    let values = [std::ptr::null_mut(), arg.map_or(std::ptr::null_mut(), Bound::as_ptr)];
    let count = usize::from(arg.is_some()) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: `values` has the argument in its second place.
    unsafe { vectorcall_in_context(context, callback, values.as_ptr().add(1), count) }
}

/// # Safety
/// There are `count` objects at `values` (which a flag says more about), and they outlive the call.
#[inline]
unsafe fn vectorcall_in_context(
    context: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    values: *const *mut ffi::PyObject,
    count: usize,
) -> PyResult<()> {
    let py = context.py();
    // SAFETY: attached; `context` is a Context (checked where it came in) and outlives the call. It is left again by
    // this thread, see `in_context`. The arguments are as the caller says, and the result is a new reference or null.
    unsafe {
        if ffi::PyContext_Enter(context.as_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
        let result = ffi::PyObject_Vectorcall(callback.as_ptr(), values, count, std::ptr::null_mut());
        if result.is_null() {
            let error = PyErr::fetch(py);
            ffi::PyContext_Exit(context.as_ptr());
            return Err(error);
        }
        ffi::Py_DECREF(result);
        if ffi::PyContext_Exit(context.as_ptr()) < 0 {
            return Err(PyErr::fetch(py));
        }
    }
    Ok(())
}

/// A `bytes` object that is filled before anybody else sees it.
pub struct BytesBuilder<'py> {
    object: Bound<'py, PyAny>,
    capacity: usize,
}

impl<'py> BytesBuilder<'py> {
    /// Room for `capacity` bytes, not initialised.
    pub fn new(py: Python<'py>, capacity: usize) -> PyResult<Self> {
        let length = ffi::Py_ssize_t::try_from(capacity).map_err(|_| PyMemoryError::new_err("too large"))?;
        // SAFETY: attached; a null buffer asks for uninitialised contents.
        let object =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), length))? };
        Ok(Self { object, capacity })
    }

    /// The room.
    pub fn buffer(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the object is a bytes of `capacity` bytes that nobody else has a reference to (a capacity above 1
        // never gives a shared singleton), and the borrow of `self` keeps it alive.
        unsafe { std::slice::from_raw_parts_mut(ffi::PyBytes_AsString(self.object.as_ptr()).cast(), self.capacity) }
    }

    /// The `bytes` of the first `length` bytes.
    ///
    /// # Safety
    /// They must have been written.
    pub unsafe fn finish(self, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        let py = self.object.py();
        let mut pointer = self.object.into_ptr();
        let length = ffi::Py_ssize_t::try_from(length).map_err(|_| PyMemoryError::new_err("too large"))?;
        // SAFETY: `pointer` is the only reference to the bytes; on failure it is freed and set to null.
        unsafe {
            if _PyBytes_Resize(&raw mut pointer, length) < 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(Bound::from_owned_ptr(py, pointer).cast_into_unchecked())
        }
    }
}

/// Shows the bytes of a bytes-like object to `body`, which must run no Python code.
pub fn with_bytes<R>(object: &Bound<'_, PyAny>, body: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(body(bytes.as_bytes()));
    }
    let view = View::open(object, ffi::PyBUF_SIMPLE)?;
    // SAFETY: a simple view is `len` contiguous bytes, kept in place until it is released. Another thread that writes
    // into them meanwhile needs the interpreter, which this thread holds.
    Ok(body(unsafe { view.slice() }))
}

/// Lets `body`, which must run no Python code, fill a writable bytes-like object.
pub fn with_writable<R>(object: &Bound<'_, PyAny>, body: impl FnOnce(&mut [MaybeUninit<u8>]) -> R) -> PyResult<R> {
    let view = View::open(object, ffi::PyBUF_WRITABLE)?;
    // SAFETY: as in `with_bytes`; `MaybeUninit` only because that is what receives ask for.
    Ok(body(unsafe { std::slice::from_raw_parts_mut(view.start().cast(), view.len()) }))
}

/// An open view of a buffer; released when dropped.
struct View(ffi::Py_buffer);

impl View {
    fn open(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Self(ffi::Py_buffer::new());
        // SAFETY: attached, and both pointers are valid.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut view.0, flags) } < 0 {
            // A view that was not opened has no object, so that its release does nothing.
            return Err(PyErr::fetch(object.py()));
        }
        Ok(view)
    }

    fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    fn start(&self) -> *mut u8 {
        if self.0.buf.is_null() { std::ptr::dangling_mut() } else { self.0.buf.cast() }
    }

    /// # Safety
    /// Nobody may change the bytes meanwhile.
    unsafe fn slice(&self) -> &[u8] {
        // SAFETY: the view covers that many bytes; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: views live on the stack of `with_bytes` and `with_writable`, where the thread is attached.
        unsafe { ffi::PyBuffer_Release(&raw mut self.0) };
    }
}

/// Says that an object was made whole. Python 3.11 and 3.12 make the `__dict__` of an instance before PyO3 writes its
/// contents, and the collector, which may run then, sees it as zeroes: a class with a `dict` must ask before it visits.
pub struct Made(bool);

impl Made {
    pub const MADE: Self = Self(true);

    pub fn is_made(&self) -> bool {
        // SAFETY: a field of a live object; volatile, since by Rust's rules it could never be anything else.
        unsafe { std::ptr::read_volatile(&raw const self.0) }
    }
}

/// A word of an object of C, counted from the end of its head; `None` beyond the size of its type.
pub fn object_word(object: &Bound<'_, PyAny>, index: usize) -> Option<usize> {
    let size: usize = object.get_type().getattr("__basicsize__").ok()?.extract().ok()?;
    let offset = size_of::<ffi::PyObject>() + index * size_of::<usize>();
    if offset + size_of::<usize>() > size {
        return None;
    }
    // SAFETY: an object has at least the size of its type, its words are aligned, and any word may be read as a number.
    Some(unsafe { object.as_ptr().cast::<u8>().add(offset).cast::<usize>().read() })
}

/// Warns that something was not closed; `source` is what tracemalloc is asked about.
pub fn warn_of_resource(source: &Bound<'_, PyAny>, text: &str) -> PyResult<()> {
    let text = std::ffi::CString::new(text)?;
    // SAFETY: attached; the format takes one C string, which outlives the call.
    if unsafe { ffi::PyErr_ResourceWarning(source.as_ptr(), 1, c"%s".as_ptr(), text.as_ptr()) } < 0 {
        return Err(PyErr::fetch(source.py()));
    }
    Ok(())
}

/// Python's own `socket` objects, whose descriptor can be read without a call: it becomes -1 when one is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SocketLayout {
    /// `_socket.socket`: the descriptor follows the object's head, and has in every CPython 3.
    Native,
    /// Something else, which must be believed.
    Foreign,
}

impl SocketLayout {
    /// The layout of `sock`, whose descriptor is `fd`.
    pub fn of(sock: &Bound<'_, PyAny>, fd: std::ffi::c_int) -> PyResult<Self> {
        let class =
            sock.py().import(pyo3::intern!(sock.py(), "_socket"))?.getattr(pyo3::intern!(sock.py(), "socket"))?;
        let is_native = sock.is_instance(&class)? && Self::Native.has_number(sock, fd);
        Ok(if is_native { Self::Native } else { Self::Foreign })
    }

    /// Whether the socket still has this descriptor.
    pub fn has_number(self, sock: &Bound<'_, PyAny>, fd: std::ffi::c_int) -> bool {
        if self == Self::Foreign {
            return true;
        }
        // SAFETY: an instance of `_socket.socket` (checked by `of`) is an object head and then its descriptor, an int.
        unsafe { sock.as_ptr().add(1).cast::<std::ffi::c_int>().read() == fd }
    }
}

/// Makes the method `__del__` of `class` what the cycle collector calls first. PyO3 makes classes without this slot;
/// setting the attribute has CPython fill it. An object that is freed by its last reference runs its `Drop` alone.
pub fn add_finalizer(class: &Bound<'_, PyType>) -> PyResult<()> {
    let name = pyo3::intern!(class.py(), "__del__");
    class.setattr(name, class.getattr(name)?)
}

/// Calls `callable(**{names[0]: value})` without a dict.
pub fn call_with_keyword<'py>(
    callable: &Bound<'py, PyAny>,
    names: &Bound<'py, PyTuple>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    debug_assert_eq!(names.len(), 1);
    let values = [value.as_ptr()];
    // SAFETY: attached; there are no positional arguments, and one value for the one name.
    unsafe {
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), values.as_ptr(), 0, names.as_ptr());
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// Whether `error` must end the run of a loop instead of being reported by it.
pub fn ends_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py)
        || error.is_instance_of::<pyo3::exceptions::PySystemExit>(py)
}

/// The exception object of `error`, with its traceback.
pub fn exception(py: Python<'_>, error: PyErr) -> Bound<'_, PyBaseException> {
    error.into_value(py).into_bound(py)
}
