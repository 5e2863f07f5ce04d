//! Interior mutability for classes that the GIL guards.

use std::cell::{Ref, RefCell, RefMut};

use pyo3::Python;

/// A `RefCell` that may sit in a `#[pyclass]`: it is opened only with the GIL held.
///
/// Whoever opens it must run no Python code before closing it; a second opening would panic.
#[derive(Default)]
pub struct GilCell<T>(RefCell<T>);

// SAFETY: the contents are reached only through methods that take a `Python` token (`try_borrow_in_gc` is called by
// the collector, which holds the GIL too), so one thread at a time does. The module is declared to need the GIL.
unsafe impl<T> Send for GilCell<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    pub fn borrow<'a>(&'a self, _py: Python<'_>) -> Ref<'a, T> {
        self.0.borrow()
    }

    pub fn borrow_mut<'a>(&'a self, _py: Python<'_>) -> RefMut<'a, T> {
        self.0.borrow_mut()
    }

    pub fn replace(&self, py: Python<'_>, value: T) -> T {
        std::mem::replace(&mut *self.borrow_mut(py), value)
    }

    /// For `__traverse__`, which has no token; `None` while the cell is being changed.
    pub fn try_borrow_in_gc(&self) -> Option<Ref<'_, T>> {
        self.0.try_borrow().ok()
    }

    /// For `__clear__` and `Drop`, where nobody else can have the cell open.
    pub fn take_in_gc(&self) -> Option<T>
    where
        T: Default,
    {
        self.0.try_borrow_mut().ok().map(|mut value| std::mem::take(&mut *value))
    }
}
