//! The waker that a connection of HTTP/1.1 is polled with: it wakes whoever uses the connection now.
//!
//! It is one waker as long as the connection lasts, so that the socket keeps the one that it knows. And it can be told to
//! keep still: a user who hands the connection a request, or takes a piece of a body out of it, polls it next anyhow, and
//! need not be woken for that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// See the module.
pub(super) struct Relay {
    shared: Arc<Shared>,
    waker: Waker,
}

struct Shared {
    is_still: AtomicBool,
    user: Mutex<Waker>,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_still.load(Ordering::Relaxed) {
            // Whatever waking runs, nothing is locked then.
            let user = self.user.lock().unwrap_or_else(PoisonError::into_inner).clone();
            user.wake();
        }
    }
}

impl Relay {
    pub fn new() -> Self {
        let user = Mutex::new(Waker::noop().clone());
        let shared = Arc::new(Shared { is_still: AtomicBool::new(false), user });
        Self { waker: Waker::from(Arc::clone(&shared)), shared }
    }

    /// Wakes whoever polls in `user` from now on; gives what to poll the connection in.
    pub fn follow(&self, user: &Waker) -> Context<'_> {
        let mut followed = self.shared.user.lock().unwrap_or_else(PoisonError::into_inner);
        if !followed.will_wake(user) {
            let before = std::mem::replace(&mut *followed, user.clone());
            drop(followed);
            drop(before);
        }
        Context::from_waker(&self.waker)
    }

    /// Wakes nobody for what `action` does: the connection is polled after it.
    pub fn still<R>(&self, action: impl FnOnce() -> R) -> R {
        self.shared.is_still.store(true, Ordering::Relaxed);
        let result = action();
        self.shared.is_still.store(false, Ordering::Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Wake, Waker};

    use super::Relay;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_wakes_the_last_user_unless_kept_still() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let relay = Relay::new();
        let kept = relay.follow(&Waker::from(Arc::clone(&first))).waker().clone();
        kept.wake_by_ref();
        let again = relay.follow(&Waker::from(Arc::clone(&second)));
        assert!(again.waker().will_wake(&kept));
        kept.wake_by_ref();
        assert_eq!(relay.still(|| kept.wake_by_ref()), ());
        kept.wake_by_ref();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (1, 2));
        relay.follow(Waker::noop());
        kept.wake();
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
    }
}
