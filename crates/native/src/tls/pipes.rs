//! What a libssl session reads from and writes to.

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

thread_local! {
    /// An empty buffer for output: what one session has sent, another fills next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Keeps the room of an output that was sent, for this thread's next.
pub fn keep_spare(mut output: Vec<u8>) {
    output.clear();
    let kept = SPARE.take();
    SPARE.set(if kept.capacity() > output.capacity() { kept } else { output });
}

/// The two directions of ciphertext.
#[derive(Default)]
pub struct Ends {
    /// What came from the peer and was not used in the feed that brought it.
    kept: Vec<u8>,
    /// How much of `kept` is used.
    used: usize,
    /// What the feed under way brought; it comes after `kept`.
    fed: Option<NonNull<[u8]>>,
    /// For the peer.
    pub output: Vec<u8>,
}

impl Ends {
    /// The number of bytes that came from the peer and were not used.
    pub fn input_len(&self) -> usize {
        self.kept.len() - self.used + self.fed.map_or(0, NonNull::len)
    }

    /// Makes room for output, if there is none.
    pub fn make_room(&mut self, bytes: usize) {
        if self.output.capacity() == 0 {
            self.output = SPARE.take();
            self.output.reserve(bytes);
        }
    }

    /// Moves as much as there is and fits into `room`.
    pub fn take_input(&mut self, room: &mut [MaybeUninit<u8>]) -> usize {
        let kept = &self.kept[self.used..];
        if !kept.is_empty() {
            let count = copy(kept, room);
            self.used += count;
            if self.used == self.kept.len() {
                self.forget_kept();
            }
            return count;
        }
        let Some(fed) = self.fed else { return 0 };
        // SAFETY: `fed` is set only inside of `Pipes::feed`, whose caller lends the bytes until it returns.
        let bytes = unsafe { fed.as_ref() };
        let count = copy(bytes, room);
        self.fed = Some(NonNull::from(&bytes[count..]));
        count
    }

    /// Ends the feed: what is left of it is kept.
    fn end_feed(&mut self) {
        let Some(fed) = self.fed.take() else { return };
        // SAFETY: as in `take_input`; `feed` calls this before it returns.
        let rest = unsafe { fed.as_ref() };
        if rest.is_empty() {
            return;
        }
        if self.used > 0 {
            self.kept.drain(..self.used);
            self.used = 0;
        }
        self.kept.extend_from_slice(rest);
    }

    fn forget_kept(&mut self) {
        /// A buffer that grew beyond this is given back once it is empty.
        const KEPT_BYTES_MAX: usize = 32 * 1024;
        self.used = 0;
        self.kept.clear();
        if self.kept.capacity() > KEPT_BYTES_MAX {
            self.kept = Vec::new();
        }
    }
}

fn copy(from: &[u8], room: &mut [MaybeUninit<u8>]) -> usize {
    let count = from.len().min(room.len());
    // SAFETY: both have that many bytes, and `room` is exclusive, so that they do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), room.as_mut_ptr().cast(), count) };
    count
}

struct Shared(UnsafeCell<Ends>);

// SAFETY: the ends are reached by the session and by OpenSSL's callbacks for its `SSL`. One thread at a time uses an
// `SSL`: the loop's own; see `Pipes::with`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Both ends of a session's ciphertext, shared by the session and the BIO of its `SSL`, whichever lives longer.
#[derive(Clone)]
pub struct Pipes(Arc<Shared>);

impl Pipes {
    pub fn new() -> Self {
        Self(Arc::new(Shared(UnsafeCell::default())))
    }

    /// Lets `body` use the ends. It must not call OpenSSL, which uses them too.
    ///
    /// # Safety
    /// No other thread uses the `SSL` or the session meanwhile.
    pub unsafe fn with<R>(&self, body: impl FnOnce(&mut Ends) -> R) -> R {
        // SAFETY: the caller's promise; `body` is the only borrower, since neither it nor anybody else reaches them.
        body(unsafe { &mut *self.0.0.get() })
    }

    /// Lends `ciphertext` to whoever reads while `work` runs, and keeps a copy of what is left.
    ///
    /// # Safety
    /// As [`Pipes::with`], before and after `work`.
    pub unsafe fn feed<R>(&self, ciphertext: &[u8], work: impl FnOnce() -> R) -> R {
        struct Feed<'a>(&'a Pipes);
        impl Drop for Feed<'_> {
            fn drop(&mut self) {
                // SAFETY: by the contract of `feed`.
                unsafe { self.0.with(Ends::end_feed) };
            }
        }
        // SAFETY: by this function's contract. A feed inside of a feed ends the outer one's loan first.
        unsafe {
            self.with(|ends| {
                ends.end_feed();
                ends.fed = Some(NonNull::from(ciphertext));
            });
        }
        let _ends_the_loan = Feed(self);
        work()
    }

    /// A reference for a BIO.
    pub fn into_raw(self) -> *mut u8 {
        Arc::into_raw(self.0).cast::<u8>().cast_mut()
    }

    /// Lets `body` use the ends of a BIO's reference.
    ///
    /// # Safety
    /// `raw` came from [`Pipes::into_raw`] and was not released; and as [`Pipes::with`].
    pub unsafe fn with_raw<R>(raw: *mut u8, body: impl FnOnce(&mut Ends) -> R) -> R {
        // SAFETY: the caller's promise.
        unsafe { body(&mut *(*raw.cast::<Shared>()).0.get()) }
    }

    /// Gives a BIO's reference back.
    ///
    /// # Safety
    /// As [`Pipes::with_raw`]; once.
    pub unsafe fn release_raw(raw: *mut u8) {
        if !raw.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Arc::from_raw(raw.cast::<Shared>()) });
        }
    }
}
