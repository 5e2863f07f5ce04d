//! Futures: a question gives a value that stands for its answer, before that is there.
//!
//! Such values can be stored, passed on and waited for in any order; the requests run meanwhile.

use std::time::{Duration, Instant};

use aioxide::http::{Bytes, Client, Limits, Request, Result, Server, ServerOptions};
use aioxide::{EventLoop, JoinHandle, LoopHandle};

/// Starts the request, and returns its future. Dropping that would give the request up.
fn fetch(handle: &LoopHandle, client: &Client, request: Request) -> JoinHandle<Result<Bytes>> {
    let client = client.clone();
    handle.spawn(async move { client.fetch(request).await?.bytes().await })
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(ServerOptions { latency: Duration::from_millis(400), ..ServerOptions::default() })?;
    let event_loop = EventLoop::new()?;
    let client = Client::new(event_loop.handle(), Limits::default());
    let started = Instant::now();
    let mut futures = Vec::new();
    for number in [1, 2] {
        let request = Request::get(&format!("{}/{number}", server.url()))?;
        println!("--- request {number} sent");
        futures.push((number, fetch(event_loop.handle(), &client, request)));
    }
    for (number, future) in futures {
        event_loop.block_on(future)??;
        println!("--- response {number} received");
    }
    println!("two requests in {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}
