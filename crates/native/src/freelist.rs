//! Objects that come and go all the time: kept for the next one, and freed without recursion.
//!
//! A `Handle` is made for every callback, and is gone a moment later. CPython keeps the memory of classes of its own
//! that are used like that, and bounds how deep their deallocations nest (a handle whose argument is a handle whose
//! argument is a handle, and so on); for the classes of an extension nobody does either. Here the whole object is kept,
//! emptied of what it held, so that it need not be made again either.
//!
//! On a free-threaded build no object is kept, since its memory comes from a heap of each thread there, and each thread
//! counts its own deallocations.

use std::cell::UnsafeCell;

#[cfg(not(Py_GIL_DISABLED))]
use pyo3::Borrowed;
use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;

/// Objects kept for each class.
#[cfg(not(Py_GIL_DISABLED))]
const KEPT_MAX: usize = 256;
/// So many deallocations of a class go on inside each other before the next one is put off.
const NESTED_MAX: u32 = 32;

/// A class whose objects are kept, and may be referred to weakly.
pub trait Recycled: PyClass {
    /// The class's own list: a class that extends it has other objects.
    const LIST: &'static FreeList;

    /// Drops all that the object holds. What is left is never looked at before the object is filled again.
    #[cfg_attr(Py_GIL_DISABLED, allow(dead_code, reason = "no object is kept on this build"))]
    fn empty(slf: &Bound<'_, Self>);
}

/// What is kept for one class.
pub struct FreeList(UnsafeCell<Inner>);

struct Inner {
    class: *mut ffi::PyTypeObject,
    /// Takes an object of the class down, and ends by freeing it.
    dealloc: Option<ffi::destructor>,
    /// Emptied objects, unknown to the collector, without a reference to them.
    #[cfg(not(Py_GIL_DISABLED))]
    kept: Vec<*mut ffi::PyObject>,
    #[cfg(not(Py_GIL_DISABLED))]
    nesting: Nesting,
}

/// Deallocations inside of deallocations.
struct Nesting {
    /// How many go on now.
    depth: u32,
    /// Objects whose deallocation was put off, unknown to the collector, and how each is taken down.
    put_off: Vec<(*mut ffi::PyObject, ffi::destructor)>,
}

impl Nesting {
    const fn new() -> Self {
        Self { depth: 0, put_off: Vec::new() }
    }
}

// SAFETY: everything below is called by CPython with the GIL held, and looks into the list only where nothing else
// can run. Without a GIL the list is written once, before there are objects, and then only read.
unsafe impl Sync for FreeList {}

impl FreeList {
    pub const fn new() -> Self {
        Self(UnsafeCell::new(Inner {
            class: std::ptr::null_mut(),
            dealloc: None,
            #[cfg(not(Py_GIL_DISABLED))]
            kept: Vec::new(),
            #[cfg(not(Py_GIL_DISABLED))]
            nesting: Nesting::new(),
        }))
    }

    /// # Safety
    /// The GIL is held, and `look` runs no code of others.
    unsafe fn with<R>(&self, look: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: by this function's contract nobody else has a reference meanwhile.
        look(unsafe { &mut *self.0.get() })
    }

    /// # Safety
    /// As for `with`.
    #[cfg(not(Py_GIL_DISABLED))]
    unsafe fn with_nesting<R>(&self, look: impl FnOnce(&mut Nesting) -> R) -> R {
        // SAFETY: by this function's contract.
        unsafe { self.with(|list| look(&mut list.nesting)) }
    }

    /// # Safety
    /// `look` runs no code of others.
    #[cfg(Py_GIL_DISABLED)]
    unsafe fn with_nesting<R>(&self, look: impl FnOnce(&mut Nesting) -> R) -> R {
        thread_local! {
            static NESTING: UnsafeCell<Nesting> = const { UnsafeCell::new(Nesting::new()) };
        }
        // SAFETY: by this function's contract nobody else in this thread has a reference meanwhile.
        NESTING.with(|nesting| look(unsafe { &mut *nesting.get() }))
    }

    /// How an object of the class is taken down.
    fn dealloc(&self) -> Option<ffi::destructor> {
        // SAFETY: written once, before there were objects of the class.
        unsafe { (*self.0.get()).dealloc }
    }
}

/// Has the objects of `T` go to its list. To be called when the module is made, before there are any.
pub fn install<T: Recycled>(py: Python<'_>) {
    let class = py.get_type::<T>().as_type_ptr();
    // SAFETY: attached; the class is valid, and nobody uses its slots yet.
    unsafe {
        if T::LIST.with(|list| list.class == class) {
            // The module is made once more, under another name: the classes are the same.
            return;
        }
        let dealloc = (*class).tp_dealloc;
        T::LIST.with(|list| (list.class, list.dealloc) = (class, dealloc));
        (*class).tp_dealloc = Some(dealloc_flat::<T>);
    }
}

/// An object from the list, filled by `fill`, which runs no code of others; without one, what `make` makes.
#[cfg(not(Py_GIL_DISABLED))]
#[inline]
pub fn reuse_or<'py, T: Recycled, V>(
    py: Python<'py>,
    value: V,
    fill: impl FnOnce(&Bound<'py, T>, V),
    make: impl FnOnce(V) -> PyResult<Bound<'py, T>>,
) -> PyResult<Bound<'py, T>> {
    // SAFETY: attached. The object is a whole one of this class, which it refers to still; nobody knows it, and it gets
    // its first reference. The collector hears of it once it is filled.
    unsafe {
        let Some(object) = T::LIST.with(|list| list.kept.pop()) else { return make(value) };
        ffi::Py_INCREF(object);
        let object = Bound::from_owned_ptr(py, object).cast_into_unchecked();
        fill(&object, value);
        ffi::PyObject_GC_Track(object.as_ptr().cast());
        Ok(object)
    }
}

/// What `make` makes: no object is kept on this build.
#[cfg(Py_GIL_DISABLED)]
pub fn reuse_or<'py, T: Recycled, V>(
    _py: Python<'py>,
    value: V,
    _fill: impl FnOnce(&Bound<'py, T>, V),
    make: impl FnOnce(V) -> PyResult<Bound<'py, T>>,
) -> PyResult<Bound<'py, T>> {
    make(value)
}

/// Takes an object down, or, deep inside of other deallocations, leaves that to the outermost of them.
unsafe extern "C" fn dealloc_flat<T: Recycled>(object: *mut ffi::PyObject) {
    // SAFETY: attached; nobody has a reference to the object any more, so the collector has no business with it.
    // What takes it down may run code of others, and does so while the list is not looked into.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let Some(dealloc) = T::LIST.dealloc() else { return };
        let is_put_off = T::LIST.with_nesting(|nesting| {
            let is_put_off = nesting.depth >= NESTED_MAX;
            if is_put_off {
                nesting.put_off.push((object, dealloc));
            } else {
                nesting.depth += 1;
            }
            is_put_off
        });
        if is_put_off {
            return;
        }
        take_down::<T>(object, dealloc);
        let next = || T::LIST.with_nesting(|nesting| if nesting.depth == 1 { nesting.put_off.pop() } else { None });
        while let Some((put_off, dealloc)) = next() {
            dealloc(put_off);
        }
        T::LIST.with_nesting(|nesting| nesting.depth -= 1);
    }
}

/// Empties an object and keeps it, or takes it down for good.
///
/// # Safety
/// As for a deallocation that CPython asks for.
unsafe fn take_down<T: Recycled>(object: *mut ffi::PyObject, dealloc: ffi::destructor) {
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: attached. The object is a whole one of exactly this class, whose objects may be referred to weakly, and
    // there is no reference to it; a `Borrowed` makes none. What runs code of others runs while the list is not looked into.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if T::LIST.with(|list| list.class == class && list.kept.len() < KEPT_MAX) {
            let weak: *mut *mut ffi::PyObject = object.byte_offset((*class).tp_weaklistoffset).cast();
            if !(*weak).is_null() {
                ffi::PyObject_ClearWeakRefs(object);
            }
            T::empty(&Borrowed::from_ptr(Python::assume_attached(), object).cast_unchecked());
            T::LIST.with(|list| list.kept.push(object));
            return;
        }
    }
    // SAFETY: by this function's contract.
    unsafe { dealloc(object) };
}
