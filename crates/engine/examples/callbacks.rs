//! Callbacks: what is to be done with the answer is handed over with the question.
//!
//! One thread, one loop. The loop calls back when an answer is there; the last callback stops it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aioxide::http::{Bytes, Client, Limits, Request, Result, Server, ServerOptions};
use aioxide::{Callbacks, EventLoop, LoopHandle};

/// Returns at once; `callback` gets the body, or why there is none.
fn fetch(handle: &LoopHandle, client: &Client, request: Request, callback: impl FnOnce(Result<Bytes>) + 'static) {
    let client = client.clone();
    let answer = async move { client.fetch(request).await?.bytes().await };
    handle.spawn(async move { callback(answer.await) }).detach();
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(ServerOptions { latency: Duration::from_millis(400), ..ServerOptions::default() })?;
    let event_loop = Rc::new(EventLoop::<Callbacks>::new()?);
    let client = Client::new(event_loop.handle(), Limits::default());
    let started = Instant::now();
    let outstanding = Rc::new(Cell::new(2));
    for number in [1, 2] {
        let request = Request::get(&format!("{}/{number}", server.url()))?;
        println!("--- request {number} sent");
        let (event_loop_to_stop, outstanding) = (Rc::clone(&event_loop), Rc::clone(&outstanding));
        fetch(event_loop.handle(), &client, request, move |answer| {
            match answer {
                Ok(_) => println!("--- response {number} received"),
                Err(error) => println!("--- request {number} failed: {error}"),
            }
            outstanding.set(outstanding.get() - 1);
            if outstanding.get() == 0 {
                event_loop_to_stop.stop();
            }
        });
    }
    event_loop.run(&Callbacks).map_err(|error| format!("{error:?}"))?;
    println!("two requests in {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}
