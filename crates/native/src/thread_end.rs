//! What becomes of a daemon thread that runs our code when the interpreter goes.
//!
//! Since Python 3.14 a thread that asks for a finalizing interpreter waits for the end of the process. Before, CPython
//! ends it by `pthread_exit`, and glibc does that by unwinding the thread's stack. Rust's frames allow no such unwinding
//! (the process would abort), and what they would drop meanwhile are Python objects, which must not be touched without
//! the interpreter. So while our code runs, the thread has a cleanup routine that comes before the first frame is
//! unwound, and it waits there as newer Pythons do. Other C libraries unwind nothing.

/// Runs `run`, which may call Python or attach to it, in a thread that Python may have to end meanwhile.
#[cfg(any(Py_3_14, not(target_env = "gnu")))]
pub fn outlived<R>(run: impl FnOnce() -> R) -> R {
    run()
}

#[cfg(all(not(Py_3_14), target_env = "gnu"))]
pub use by_cleanup::outlived;

#[cfg(all(not(Py_3_14), target_env = "gnu"))]
mod by_cleanup {
    use std::ffi::{c_int, c_void};
    use std::ptr;

    /// As in `<pthread.h>`, whose macros of C without exceptions used it.
    #[repr(C)]
    struct CleanupBuffer {
        routine: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut CleanupBuffer,
    }

    unsafe extern "C" {
        fn _pthread_cleanup_push(
            buffer: *mut CleanupBuffer,
            routine: unsafe extern "C" fn(*mut c_void),
            argument: *mut c_void,
        );
        fn _pthread_cleanup_pop(buffer: *mut CleanupBuffer, execute: c_int);
    }

    /// Waits for the end of the process, if it is Python that ends the thread.
    unsafe extern "C" fn wait_for_the_end(_argument: *mut c_void) {
        while crate::raw::is_finalizing() {
            std::thread::park();
        }
    }

    /// Takes the routine back, also when `run` panics.
    struct Pushed(*mut CleanupBuffer);

    impl Drop for Pushed {
        fn drop(&mut self) {
            // SAFETY: what `outlived` pushed last in this thread; it came from a box, and nobody else knows it.
            unsafe {
                _pthread_cleanup_pop(self.0, 0);
                drop(Box::from_raw(self.0));
            }
        }
    }

    /// Runs `run`, which may call Python or attach to it, in a thread that Python may have to end meanwhile.
    pub fn outlived<R>(run: impl FnOnce() -> R) -> R {
        // glibc runs a routine once the frame is left that its buffer lies in. A buffer outside of the stack belongs to
        // no frame, so its routine comes before all frames.
        let buffer = Box::into_raw(Box::new(CleanupBuffer {
            routine: wait_for_the_end,
            argument: ptr::null_mut(),
            cancel_type: 0,
            previous: ptr::null_mut(),
        }));
        // SAFETY: the buffer lives until it is popped, which happens in this thread, last in, first out.
        unsafe { _pthread_cleanup_push(buffer, wait_for_the_end, ptr::null_mut()) };
        let _pushed = Pushed(buffer);
        run()
    }
}
