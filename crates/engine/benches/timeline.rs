//! What the recorder costs: CPU of the loop's thread per step of almost nothing, at each level, taken in turns so that
//! a busy machine disturbs all alike.
//!
//! `cargo bench --bench timeline -- [steps] [rounds]`

use std::convert::Infallible;
use std::rc::Rc;

use aioxide::driver::Readiness;
use aioxide::reactor::SourceKey;
use aioxide::timeline::{self, LaneId, LaneKind, Level, NameId, Step, Woken};
use aioxide::{EventLoop, Host, thread_cpu_time};

/// A host whose handles count down, and which describes them as cheaply as can be: what is left is the recorder.
struct Countdown {
    event_loop: Rc<EventLoop<Countdown>>,
    lane: Option<LaneId>,
    name: NameId,
}

impl Host for Countdown {
    type Handle = u32;
    type Error = Infallible;

    fn call(&self, left: u32) -> Result<(), Infallible> {
        match left.checked_sub(1) {
            Some(left) => self.event_loop.call_soon(left),
            None => self.event_loop.stop(),
        }
        Ok(())
    }

    fn ready(&self, _source: SourceKey, _readiness: Readiness) -> Result<(), Infallible> {
        Ok(())
    }

    fn describe(&self, _handle: &u32) -> Option<Step> {
        Some(Step { lane: self.lane?, name: self.name, woken: Woken::by(self.lane, timeline::ticks()) })
    }

    fn park<R>(&self, wait: impl FnOnce() -> R) -> Result<R, Infallible> {
        Ok(wait())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    // `cargo test --all-targets` only looks whether it runs.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let steps = numbers.next().unwrap_or(if measures { 1_000_000 } else { 1000 });
    let rounds = numbers.next().unwrap_or(if measures { 15 } else { 1 });
    let mut costs: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (costs, level) in costs.iter_mut().zip([Level::Counters, Level::Flight, Level::Full]) {
            costs.push(ns_per_step(level, steps)?);
        }
    }
    let [counters, flight, full] = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    });
    println!("{steps} steps in each of {rounds} rounds, medians of CPU time");
    println!("counters: {counters:.1} ns per step, loop and all");
    println!("flight:   {:+.1} ns per step (in groups of 16)", flight - counters);
    println!("full:     {:+.1} ns per record (who scheduled it, and when, included)", full - counters);
    Ok(())
}

fn ns_per_step(level: Level, steps: u32) -> Result<f64, Box<dyn std::error::Error>> {
    if level == Level::Full {
        // The ring goes round: that all its memory is touched for the first time is not what a record costs.
        timeline::start(64 * 1024);
    } else {
        timeline::set_level(level);
    }
    let event_loop = Rc::new(EventLoop::<Countdown>::new()?);
    let lane = timeline::lane("countdown", LaneKind::Task);
    let host = Countdown { event_loop: Rc::clone(&event_loop), lane, name: timeline::name("step") };
    // The first steps find out how to record, and write each page of the ring for the first time.
    event_loop.call_soon(steps.min(100_000));
    event_loop.run(&host).map_err(|_| "the loop's run failed")?;
    event_loop.call_soon(steps);
    let before = cpu_ns()?;
    event_loop.run(&host).map_err(|_| "the loop's run failed")?;
    let took = cpu_ns()? - before;
    let _recording = timeline::stop();
    Ok(took / f64::from(steps))
}

fn cpu_ns() -> Result<f64, std::io::Error> {
    let (user, system) = thread_cpu_time()?;
    Ok((user + system).as_secs_f64() * 1e9)
}
