//! Interior mutability for what Python's threads share.

use std::cell::{Ref, RefCell, RefMut};
use std::ops::{Deref, DerefMut};

use pyo3::Python;

use lock::{Held, ThreadLock};

/// A `RefCell` that may sit in a `#[pyclass]`: one thread at a time has it open.
///
/// With a GIL that is whoever holds the GIL, and costs nothing. On a free-threaded build it is whoever holds the cell's
/// own lock. It means the same either way: the thread that has it open may look again, others wait.
///
/// Whoever opens it must run no Python code before closing it; a second opening would panic. Nor may it open another
/// cell, or reach for a loop's engine, where it might wait for somebody who waits for this cell.
#[derive(Default)]
pub struct GilCell<T> {
    lock: ThreadLock,
    value: RefCell<T>,
}

// SAFETY: the value is reached only by a thread that holds the lock, or by the collector, while every other thread
// stands still. (A value may be dropped by a thread other than the one that made it: it belongs to the cell alone.)
unsafe impl<T> Send for GilCell<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for GilCell<T> {}

/// A borrow that ends before its lock is given back.
pub struct Borrow<'a, R> {
    value: R,
    _held: Held<'a>,
}

impl<R: Deref> Deref for Borrow<'_, R> {
    type Target = R::Target;

    fn deref(&self) -> &R::Target {
        &self.value
    }
}

impl<R: DerefMut> DerefMut for Borrow<'_, R> {
    fn deref_mut(&mut self) -> &mut R::Target {
        &mut self.value
    }
}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        Self { lock: ThreadLock::new(), value: RefCell::new(value) }
    }

    pub fn borrow<'a>(&'a self, py: Python<'_>) -> Borrow<'a, Ref<'a, T>> {
        let held = self.lock.lock(py);
        Borrow { value: self.value.borrow(), _held: held }
    }

    pub fn borrow_mut<'a>(&'a self, py: Python<'_>) -> Borrow<'a, RefMut<'a, T>> {
        let held = self.lock.lock(py);
        Borrow { value: self.value.borrow_mut(), _held: held }
    }

    pub fn replace(&self, py: Python<'_>, value: T) -> T {
        std::mem::replace(&mut *self.borrow_mut(py), value)
    }

    /// For `__traverse__`, which has no token; `None` while the cell is being changed.
    pub fn try_borrow_in_gc(&self) -> Option<Ref<'_, T>> {
        // Whoever has it open stands still until the collector is done, so this answer stays true.
        if self.lock.is_free_for_gc() { self.value.try_borrow().ok() } else { None }
    }

    /// For `__clear__` and `Drop`, where nobody else can have the cell open.
    pub fn take_in_gc(&self) -> Option<T>
    where
        T: Default,
    {
        self.change_in_gc(std::mem::take)
    }

    /// As [`GilCell::take_in_gc`], for a part of the value.
    pub fn change_in_gc<R>(&self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.lock.is_free_for_gc() {
            return None;
        }
        self.value.try_borrow_mut().ok().map(|mut value| change(&mut value))
    }
}

/// The GIL is the lock.
#[cfg(not(Py_GIL_DISABLED))]
mod lock {
    use std::marker::PhantomData;

    use pyo3::Python;

    #[derive(Default)]
    pub struct ThreadLock;

    pub struct Held<'a>(PhantomData<&'a ThreadLock>);

    impl ThreadLock {
        pub const fn new() -> Self {
            Self
        }

        #[expect(clippy::unused_self, reason = "as on a free-threaded build")]
        pub fn lock(&self, _py: Python<'_>) -> Held<'_> {
            Held(PhantomData)
        }

        #[expect(clippy::unused_self, reason = "as on a free-threaded build")]
        pub fn is_free_for_gc(&self) -> bool {
            true
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod lock {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aioxide::executor::this_thread;
    use pyo3::Python;

    use crate::host::Patience;

    /// A lock that its owner may take again. It is taken by attached threads only, so that it never changes hands while
    /// the collector has stopped the world.
    #[derive(Default)]
    pub struct ThreadLock {
        /// 0 while nobody has it.
        owner: AtomicUsize,
        /// How often the owner has it; the owner's alone.
        depth: Cell<usize>,
    }

    pub struct Held<'a>(&'a ThreadLock);

    impl ThreadLock {
        pub const fn new() -> Self {
            Self { owner: AtomicUsize::new(0), depth: Cell::new(0) }
        }

        pub fn lock(&self, py: Python<'_>) -> Held<'_> {
            let this_thread = this_thread();
            if self.owner.load(Ordering::Relaxed) != this_thread {
                let mut patience = Patience::default();
                while self.owner.compare_exchange(0, this_thread, Ordering::Acquire, Ordering::Relaxed).is_err() {
                    patience.wait(py);
                }
            }
            self.depth.set(self.depth.get() + 1);
            Held(self)
        }

        pub fn is_free_for_gc(&self) -> bool {
            let owner = self.owner.load(Ordering::Acquire);
            owner == 0 || owner == this_thread()
        }
    }

    impl Drop for Held<'_> {
        fn drop(&mut self) {
            let depth = self.0.depth.get() - 1;
            self.0.depth.set(depth);
            if depth == 0 {
                self.0.owner.store(0, Ordering::Release);
            }
        }
    }
}
