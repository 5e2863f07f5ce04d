//! The calls into CPython that PyO3 has no safe form for, each behind a safe function.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyBaseException, PyMemoryError, PySystemError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyBool, PyBytes, PyDict, PyString, PyTuple, PyType};
use pyo3::{Borrowed, PyClass};

unsafe extern "C" {
    /// Before 3.13 it has an underscore in front, and PyO3 does not show it.
    #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
    fn Py_IsFinalizing() -> std::ffi::c_int;
    /// In CPython's own headers; not every PyO3 of our range shows it.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, length: ffi::Py_ssize_t) -> std::ffi::c_int;
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

/// The address of what defines a built-in function or method: the same for every object that it is bound to.
pub fn builtin_definition(callable: &Bound<'_, PyAny>) -> Option<usize> {
    let object = callable.as_ptr();
    // SAFETY: attached; the object is what the check says.
    unsafe { (ffi::PyCFunction_Check(object) != 0).then(|| (*object.cast::<ffi::PyCFunctionObject>()).m_ml as usize) }
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

/// The arguments of a call by the vectorcall protocol.
pub struct FastArgs<'a, 'py> {
    py: Python<'py>,
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    names: Option<Bound<'py, PyTuple>>,
}

impl<'py> FastArgs<'_, 'py> {
    /// The number of positional arguments.
    #[inline]
    pub fn len(&self) -> usize {
        self.positional
    }

    /// A positional argument.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Bound<'py, PyAny>> {
        let pointer = *self.values[..self.positional].get(index)?;
        // SAFETY: the caller of the vectorcall keeps its arguments alive.
        Some(unsafe { Bound::from_borrowed_ptr(self.py, pointer) })
    }

    /// The names of the keyword arguments.
    #[inline]
    pub fn names(&self) -> Option<&Bound<'py, PyTuple>> {
        self.names.as_ref()
    }

    /// The positional arguments from `first` on, as a new tuple.
    pub fn tuple_from(&self, first: usize) -> PyResult<Bound<'py, PyTuple>> {
        let values: Vec<_> = (first..self.positional).filter_map(|index| self.get(index)).collect();
        PyTuple::new(self.py, values)
    }

    /// The keyword arguments, as a call takes them.
    pub fn keywords(&self) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(names) = &self.names else { return Ok(None) };
        let keywords = PyDict::new(self.py);
        for (index, name) in names.iter().enumerate() {
            keywords.set_item(name, self.keyword_value(index))?;
        }
        Ok(Some(keywords))
    }

    /// Calls `callable` with these arguments, and with `value` by the name in `name`, a tuple of one.
    pub fn call_and(
        &self,
        callable: &Bound<'py, PyAny>,
        name: &Bound<'py, PyTuple>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        const ON_STACK: usize = 8;
        let names = match &self.names {
            None => name.clone(),
            Some(names) => names.as_sequence().concat(name.as_sequence())?.to_tuple()?,
        };
        let mut room = [std::ptr::null_mut(); ON_STACK];
        let mut more;
        let count = self.values.len() + 1;
        let values = if count <= ON_STACK {
            &mut room[..count]
        } else {
            more = vec![std::ptr::null_mut(); count];
            &mut more[..]
        };
        values[..count - 1].copy_from_slice(self.values);
        values[count - 1] = value.as_ptr();
        // SAFETY: attached; `values` has the positional arguments and one value for each of the names, all alive.
        unsafe {
            let result = ffi::PyObject_Vectorcall(callable.as_ptr(), values.as_ptr(), self.positional, names.as_ptr());
            Bound::from_owned_ptr_or_err(self.py, result)
        }
    }

    /// Calls `method` with `slf` before these arguments.
    pub fn call_method(&self, method: &Bound<'py, PyAny>, slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let given = std::iter::once(slf.clone()).chain((0..self.positional).filter_map(|index| self.get(index)));
        method.call(PyTuple::new(self.py, given.collect::<Vec<_>>())?, self.keywords()?.as_ref())
    }

    /// Refuses arguments where there may be none.
    pub fn expect_none(&self, function: &str) -> PyResult<()> {
        if self.values.is_empty() {
            return Ok(());
        }
        Err(PyTypeError::new_err(format!("{function}() takes no arguments ({} given)", self.values.len())))
    }

    /// The value of the keyword argument at `index`.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn keyword_value(&self, index: usize) -> Bound<'py, PyAny> {
        // SAFETY: the values of keywords follow the positional ones, one for each name.
        unsafe { Bound::from_borrowed_ptr(self.py, self.values[self.positional + index]) }
    }

    /// The arguments by name, of which the first `required` must be given.
    pub fn bind<const N: usize>(
        &self,
        function: &str,
        parameters: [&str; N],
        required: usize,
    ) -> PyResult<[Option<Bound<'py, PyAny>>; N]> {
        if self.positional > N {
            return Err(PyTypeError::new_err(format!(
                "{function}() takes at most {N} arguments ({} given)",
                self.positional
            )));
        }
        let mut bound = std::array::from_fn(|index| self.get(index));
        for (index, name) in self.names.iter().flat_map(|names| names.iter()).enumerate() {
            let Some(place) = parameters.iter().position(|parameter| name.eq(parameter).unwrap_or(false)) else {
                let name = name.repr()?;
                return Err(PyTypeError::new_err(format!("{function}() got an unexpected keyword argument {name}")));
            };
            if bound[place].is_some() {
                let name = parameters[place];
                return Err(PyTypeError::new_err(format!("{function}() got multiple values for argument '{name}'")));
            }
            bound[place] = Some(self.keyword_value(index));
        }
        match bound[..required].iter().position(Option::is_none) {
            Some(missing) => {
                let name = parameters[missing];
                Err(PyTypeError::new_err(format!("{function}() missing required argument: '{name}'")))
            }
            None => Ok(bound),
        }
    }

    /// The value of the only keyword that is allowed.
    #[inline]
    pub fn keyword(&self, function: &str, allowed: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(names) = &self.names else { return Ok(None) };
        let mut found = None;
        for (index, name) in names.iter_borrowed().enumerate() {
            // By their letters: asyncio's own name is not the interned one, and comparing objects would cost more.
            if name.cast::<PyString>()?.to_str()? != allowed {
                return Err(PyTypeError::new_err(format!(
                    "{function}() got an unexpected keyword argument {}",
                    name.repr()?
                )));
            }
            found = Some(self.keyword_value(index));
        }
        Ok(found)
    }
}

/// A method in the form of a vectorcall, see [`add_fast_method`].
pub type FastMethod = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// The body of a [`FastMethod`]: attaches, wraps the arguments, and turns errors and panics into exceptions.
///
/// # Safety
/// The pointers are those that CPython passed, and `T` is (a base of) the class the method was added to.
pub unsafe fn fast_call<T>(
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl for<'py> FnOnce(&Bound<'py, T>, &FastArgs<'_, 'py>) -> PyResult<Py<PyAny>>,
) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: by this function's contract.
        let (slf, names) = unsafe {
            let slf = Bound::from_borrowed_ptr(py, slf).cast_into_unchecked::<T>();
            (slf, Bound::from_borrowed_ptr_or_opt(py, names).map(|names| names.cast_into_unchecked::<PyTuple>()))
        };
        let positional = usize::try_from(count).unwrap_or(0);
        let total = positional + names.as_ref().map_or(0, PyTupleMethods::len);
        let values = if total == 0 {
            &[]
        } else {
            // SAFETY: CPython passes that many arguments.
            unsafe { std::slice::from_raw_parts(values, total) }
        };
        let args = FastArgs { py, values, positional, names };
        let result = catch_unwind(AssertUnwindSafe(|| body(&slf, &args)))
            .unwrap_or_else(|_| Err(PySystemError::new_err("internal error: a panic in aioxide")));
        match result {
            Ok(value) => value.into_ptr(),
            Err(error) => {
                error.restore(py);
                std::ptr::null_mut()
            }
        }
    })
}

/// Makes a [`FastMethod`] of each body, which takes the object as `$class`; to be added to that class or to one below.
macro_rules! fast_methods {
    ($class:ty; $($name:ident => $body:path),* $(,)?) => {
        $(unsafe extern "C" fn $name(
            slf: *mut pyo3::ffi::PyObject,
            args: *const *mut pyo3::ffi::PyObject,
            count: pyo3::ffi::Py_ssize_t,
            names: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: CPython calls this with its own pointers, as a method of the class it was added to.
            unsafe { $crate::raw::fast_call::<$class>(slf, args, count, names, $body) }
        })*
    };
}

pub(crate) use fast_methods;

/// A method without arguments, see [`add_flag_method`].
pub type FlagMethod = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// The body of a [`FlagMethod`].
///
/// # Safety
/// CPython calls it with an object of a class of `T` or below.
pub unsafe fn flag_call<T: PyClass<Frozen = True> + Sync>(
    slf: *mut ffi::PyObject,
    flag: fn(&T) -> bool,
) -> *mut ffi::PyObject {
    // SAFETY: the thread that calls is attached, and has a reference to the object.
    unsafe {
        let py = Python::assume_attached();
        let object = Borrowed::from_ptr(py, slf).cast_unchecked::<T>();
        PyBool::new(py, flag(object.get())).to_owned().into_ptr()
    }
}

/// Makes a [`FlagMethod`] of each function, which must not panic.
macro_rules! flag_methods {
    ($class:ty; $($name:ident => $flag:path),* $(,)?) => {
        $(unsafe extern "C" fn $name(
            slf: *mut pyo3::ffi::PyObject,
            _none: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: CPython calls this with its own pointers, as a method of the class it was added to.
            unsafe { $crate::raw::flag_call::<$class>(slf, $flag) }
        })*
    };
}

pub(crate) use flag_methods;

/// Adds a method that takes its arguments without a tuple to `class`.
pub fn add_fast_method(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    method: FastMethod,
) -> PyResult<()> {
    let method = ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method };
    add_method(class, name, doc, method, ffi::METH_FASTCALL | ffi::METH_KEYWORDS)
}

/// Adds a method that takes no arguments and tells a flag.
pub fn add_flag_method(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    method: FlagMethod,
) -> PyResult<()> {
    add_method(class, name, doc, ffi::PyMethodDefPointer { PyCFunction: method }, ffi::METH_NOARGS)
}

fn add_method(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    method: ffi::PyMethodDefPointer,
    flags: std::ffi::c_int,
) -> PyResult<()> {
    // A method definition must outlive its class; classes of an extension module are never freed.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: method,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }));
    // SAFETY: attached; class and definition are valid, and the definition lives on.
    let descriptor =
        unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(name.to_str().map_err(|error| PySystemError::new_err(error.to_string()))?, descriptor)
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
