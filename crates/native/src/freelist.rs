//! Memory for objects that come and go all the time: kept for the next one, and freed without recursion.
//!
//! A `Handle` is made for every step of every task, and is gone a moment later. CPython keeps the memory of classes
//! of its own that are used like that, and bounds how deep their deallocations nest (a handle whose argument is a
//! handle whose argument is a handle, and so on); for the classes of an extension nobody does either.
//!
//! On a free-threaded build no memory is kept, since it comes from a heap of each thread there, and each thread counts
//! its own deallocations.

use std::cell::UnsafeCell;

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;

/// Freed objects kept for each class.
const KEPT_MAX: usize = 256;
/// So many deallocations of a class go on inside each other before the next one is put off.
const NESTED_MAX: u32 = 32;

/// A class whose objects' memory is kept.
pub trait Recycled: PyClass {
    /// The class's own list: a class that extends it has objects of another size.
    const LIST: &'static FreeList;
}

/// What is kept for one class.
pub struct FreeList(UnsafeCell<Inner>);

struct Inner {
    class: *mut ffi::PyTypeObject,
    /// Takes an object of the class down, and ends by freeing it.
    dealloc: Option<ffi::destructor>,
    /// Memory of freed objects, each behind its collector's header, unknown to the collector.
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

/// Has the objects of `T` come from its list and go there. To be called when the module is made, before there are any.
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
        if cfg!(not(Py_GIL_DISABLED)) {
            (*class).tp_alloc = Some(alloc::<T>);
            (*class).tp_free = Some(free::<T>);
        }
    }
}

unsafe extern "C" fn alloc<T: Recycled>(class: *mut ffi::PyTypeObject, items: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    // SAFETY: CPython calls this attached.
    let kept = unsafe { T::LIST.with(|list| if class == list.class { list.kept.pop() } else { None }) };
    let Some(object) = kept else {
        // SAFETY: as CPython's own allocator is called.
        return unsafe { ffi::PyType_GenericAlloc(class, items) };
    };
    // SAFETY: the memory was an object of this class. It is filled before anybody else can see it, as after any
    // allocation by PyO3, so the collector may know it already.
    unsafe {
        ffi::PyObject_Init(object, class);
        ffi::PyObject_GC_Track(object.cast());
    }
    object
}

unsafe extern "C" fn free<T: Recycled>(object: *mut std::ffi::c_void) {
    let object: *mut ffi::PyObject = object.cast();
    // SAFETY: attached; the object was taken down, only its memory is left.
    unsafe {
        let is_kept = T::LIST.with(|list| {
            let is_kept = ffi::Py_TYPE(object) == list.class && list.kept.len() < KEPT_MAX;
            if is_kept {
                list.kept.push(object);
            }
            is_kept
        });
        if !is_kept {
            ffi::PyObject_GC_Del(object.cast());
        }
    }
}

/// Takes an object down, or, deep inside of other deallocations, leaves that to the outermost of them.
unsafe extern "C" fn dealloc_flat<T: Recycled>(object: *mut ffi::PyObject) {
    // SAFETY: attached; nobody has a reference to the object any more, so the collector has no business with it.
    // PyO3's part may run code of others, and does so while the list is not looked into.
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
        dealloc(object);
        let next = || T::LIST.with_nesting(|nesting| if nesting.depth == 1 { nesting.put_off.pop() } else { None });
        while let Some((put_off, dealloc)) = next() {
            dealloc(put_off);
        }
        T::LIST.with_nesting(|nesting| nesting.depth -= 1);
    }
}
