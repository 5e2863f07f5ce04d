//! Methods by the vectorcall protocol: their arguments without a tuple, and how they are added to a class.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PySystemError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyBool, PyDict, PyString, PyTuple, PyType};
use pyo3::{Borrowed, PyClass};

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
