//! Threads: each waits for its own answer, and blocks while it waits.
//!
//! Two threads, two loops, two clients: nothing is shared but the printer.

use std::time::{Duration, Instant};

use aioxide::EventLoop;
use aioxide::http::{Client, Limits, Request, Server, ServerOptions};

fn job(server: &str, number: u32) -> Result<(), Box<dyn std::error::Error>> {
    let event_loop = EventLoop::new()?;
    let client = Client::new(event_loop.handle(), Limits::default());
    let request = Request::get(&format!("{server}/{number}"))?;
    println!("--- request {number} sent");
    event_loop.block_on(async move { client.fetch(request).await?.bytes().await })??;
    println!("--- response {number} received");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(ServerOptions { latency: Duration::from_millis(400), ..ServerOptions::default() })?;
    let url = server.url();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads = [1, 2].map(|number| {
            let url = &url;
            scope.spawn(move || job(url, number).map_err(|error| error.to_string()))
        });
        threads.into_iter().try_for_each(|thread| thread.join().expect("the job does not panic"))
    })?;
    println!("two requests in {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}
