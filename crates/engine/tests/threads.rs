//! What other threads do to a loop: they schedule, they wake, and they go on with it while it closes. `make memcheck`
//! watches these tests for wrong memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use aioxide::{Callbacks, EventLoop, RemoteScheduler};

const THREADS: usize = 4;

type Remote = RemoteScheduler<Box<dyn FnOnce() + Send>>;

/// Something that a task waits for and any thread sets.
#[derive(Default)]
struct Signal {
    is_set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) {
        std::future::poll_fn(|context| {
            *self.waker.lock().unwrap() = Some(context.waker().clone());
            if self.is_set.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[test]
fn what_threads_schedule_arrives_whole_and_in_each_ones_order() {
    const EACH: usize = 3000;
    let event_loop = EventLoop::<Callbacks>::new().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::new(Signal::default());
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (remote, seen, all) = (event_loop.remote(), Arc::clone(&seen), Arc::clone(&all));
            scope.spawn(move || {
                for number in 0..EACH {
                    let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
                    let note = move || {
                        let mut seen = seen.lock().unwrap();
                        seen.push((thread, number));
                        if seen.len() == THREADS * EACH {
                            all.set();
                        }
                    };
                    assert!(remote.call_soon(Box::new(note)).is_ok());
                    if number % 500 == 0 {
                        // Long enough for the loop to park.
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        event_loop.block_on(async move { all.wait().await }).unwrap();
    });
    let seen = seen.lock().unwrap();
    for thread in 0..THREADS {
        let numbers = seen.iter().filter(|(of, _)| *of == thread).map(|(_, number)| *number);
        assert!(numbers.eq(0..EACH));
    }
}

#[test]
fn tasks_are_woken_by_other_threads_and_cancelled_meanwhile() {
    const BATCHES: usize = 300;
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let (senders, threads): (Vec<_>, Vec<_>) = (0..THREADS)
        .map(|_| {
            let (sender, receiver) = mpsc::channel::<Arc<Signal>>();
            (sender, thread::spawn(move || receiver.into_iter().for_each(|signal| signal.set())))
        })
        .unzip();
    let finished = event_loop
        .block_on(async move {
            let mut finished = 0;
            for batch in 0..BATCHES {
                let signals: Vec<_> = (0..2 * THREADS).map(|_| Arc::new(Signal::default())).collect();
                let wait = |signal: &Arc<Signal>| {
                    let signal = Arc::clone(signal);
                    handle.spawn(async move { signal.wait().await })
                };
                let tasks: Vec<_> = signals.iter().map(wait).collect();
                if batch % 2 == 0 {
                    // So that they have left their wakers already; else they find themselves woken.
                    handle.sleep(Duration::ZERO).await;
                }
                for (signal, sender) in signals.into_iter().zip(senders.iter().cycle()) {
                    sender.send(signal).unwrap();
                }
                for (number, task) in tasks.into_iter().enumerate() {
                    if number % 3 == batch % 3 {
                        drop(task);
                    } else {
                        task.await;
                        finished += 1;
                    }
                }
            }
            finished
        })
        .unwrap();
    for thread in threads {
        thread.join().unwrap();
    }
    let cancelled = (0..BATCHES).map(|batch| (0..2 * THREADS).filter(|number| number % 3 == batch % 3).count());
    assert_eq!(finished, BATCHES * 2 * THREADS - cancelled.sum::<usize>());
    assert!(event_loop.handle().tasks().is_empty());
}

/// Counts its end.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_loop_that_closes_has_refused_or_dropped_each_handle() {
    const EACH: usize = 300;
    for round in 0..40 {
        let event_loop = EventLoop::<Callbacks>::new().unwrap();
        let (ran, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let begin = Barrier::new(THREADS + 1);
        let (refused, kept) = thread::scope(|scope| {
            let push = |remote: Remote| {
                let refused = (0..EACH).filter(|_| {
                    let (ran, counted) = (Arc::clone(&ran), Counted(Arc::clone(&ended)));
                    let handle = move || {
                        let _counted = counted;
                        ran.fetch_add(1, Ordering::Relaxed);
                    };
                    remote.call_soon(Box::new(handle)).is_err()
                });
                begin.wait();
                refused.count()
            };
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let remote = event_loop.remote();
                    scope.spawn(move || push(remote))
                })
                .collect();
            begin.wait();
            let sleep = event_loop.handle().sleep(Duration::from_micros(20 * round));
            event_loop.block_on(sleep).unwrap();
            let kept = event_loop.close();
            let count = kept.len();
            drop(kept);
            (threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), count)
        });
        assert!(event_loop.remote().is_closed());
        assert_eq!(refused + kept + ran.load(Ordering::Relaxed), THREADS * EACH);
        assert_eq!(ended.load(Ordering::Relaxed), THREADS * EACH);
    }
}

#[test]
fn loops_in_many_threads_hand_something_round() {
    const HANDS: usize = 4000;
    const AT_ONCE: usize = 3;

    struct Circle {
        remotes: Vec<Remote>,
        done: Vec<Signal>,
        under_way: AtomicUsize,
    }

    fn hand(circle: Arc<Circle>, left: usize) {
        if left == 0 && circle.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            circle.done.iter().for_each(Signal::set);
        }
        if left == 0 {
            return;
        }
        let next = Arc::clone(&circle);
        assert!(circle.remotes[left % THREADS].call_soon(Box::new(move || hand(next, left - 1))).is_ok());
    }

    let (sender, receiver) = mpsc::channel();
    let (circles, threads): (Vec<_>, Vec<_>) = (0..THREADS)
        .map(|number| {
            let (circle_sender, circle_receiver) = mpsc::channel::<Arc<Circle>>();
            let sender = sender.clone();
            let run = move || {
                let event_loop = EventLoop::<Callbacks>::new().unwrap();
                sender.send((number, event_loop.remote())).unwrap();
                let circle = circle_receiver.recv().unwrap();
                event_loop.block_on(async move { circle.done[number].wait().await }).unwrap();
            };
            (circle_sender, thread::spawn(run))
        })
        .unzip();
    let mut remotes: Vec<_> = receiver.iter().take(THREADS).collect();
    remotes.sort_by_key(|(number, _)| *number);
    let circle = Arc::new(Circle {
        remotes: remotes.into_iter().map(|(_, remote)| remote).collect(),
        done: (0..THREADS).map(|_| Signal::default()).collect(),
        under_way: AtomicUsize::new(AT_ONCE),
    });
    for sender in circles {
        sender.send(Arc::clone(&circle)).unwrap();
    }
    for _ in 0..AT_ONCE {
        hand(Arc::clone(&circle), HANDS);
    }
    for thread in threads {
        thread.join().unwrap();
    }
}
