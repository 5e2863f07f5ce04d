//! Models of what crosses threads in the engine: the injector, and how it wakes a loop that parks.
//!
//! The injector's own source is compiled here, over loom's atomics and the weakest queue and the simplest notifier that
//! keep their contracts. Loom then runs every order of steps, and every value a load may see. `make loom` runs them.

#![cfg(test)]

mod driver;
mod executor {
    #[expect(dead_code, reason = "the models use a part of it")]
    #[path = "../../../src/executor/injector.rs"]
    pub mod injector;
    pub mod sync;
}

use std::sync::Arc;

use executor::injector::{Injector, Remote};
use loom::thread;

/// What `EventLoop::run` does, as far as other threads can tell: takes what was injected, and blocks while there is
/// nothing. Were a wake-up lost, it would block for ever, which loom reports as a deadlock.
fn run_until(count: usize, injector: &Injector<usize>, remote: &Remote) -> Vec<usize> {
    let mut taken = Vec::new();
    loop {
        while let Some(item) = injector.pop() {
            taken.push(item);
        }
        if taken.len() == count {
            return taken;
        }
        remote.park();
        if injector.is_empty() {
            remote.notifier().wait();
        }
        remote.unpark();
        remote.notifier().drain();
    }
}

/// With so many steps every order is too many; loom's own advice is that two or three preemptions find the bugs.
fn with_three_preemptions(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_parking_loop_misses_nothing() {
    with_three_preemptions(|| {
        let shared = Arc::new((Injector::default(), Remote::new().unwrap()));
        let pusher = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for item in 0..2 {
                    shared.0.push(item);
                    shared.1.wake();
                }
            }
        });
        assert_eq!(run_until(2, &shared.0, &shared.1), [0, 1]);
        pusher.join().unwrap();
    });
}

#[test]
fn a_parking_loop_misses_nothing_of_two_threads() {
    with_three_preemptions(|| {
        let shared = Arc::new((Injector::default(), Remote::new().unwrap()));
        let pushers = [0, 1].map(|item| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.0.push(item);
                shared.1.wake();
            })
        });
        let mut taken = run_until(2, &shared.0, &shared.1);
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
        for pusher in pushers {
            pusher.join().unwrap();
        }
    });
}

#[test]
fn what_a_closing_injector_did_not_refuse_it_holds() {
    loom::model(|| {
        let injector = Arc::new(Injector::default());
        let pushers = [0, 1].map(|item| {
            let injector = Arc::clone(&injector);
            thread::spawn(move || injector.push_if_open(item).is_ok())
        });
        injector.close();
        let mut held = 0;
        while injector.pop().is_some() {
            held += 1;
        }
        let accepted = pushers.map(|pusher| usize::from(pusher.join().unwrap()));
        assert_eq!(held, accepted.iter().sum::<usize>());
        assert!(injector.is_closed() && injector.pop().is_none());
    });
}

#[test]
fn a_loop_has_one_owner() {
    loom::model(|| {
        let shared = Arc::new((Remote::new().unwrap(), loom::cell::UnsafeCell::new(0)));
        let threads = [1, 2].map(|id| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                executor::sync::set_this_thread(id);
                if shared.0.try_own() {
                    // SAFETY: one thread at a time owns the loop; that is what the model checks.
                    shared.1.with_mut(|value| unsafe { *value += 1 });
                    assert!(shared.0.is_owner());
                    shared.0.disown();
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
