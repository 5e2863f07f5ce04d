//! `async`/`await`: code that waits reads like code that does not.
//!
//! Two jobs on one thread; each gives the loop back while it waits, so both wait at the same time.

use std::time::{Duration, Instant};

use aioxide::EventLoop;
use aioxide::http::{Client, Limits, Request, Result, Server, ServerOptions};

async fn job(client: Client, server: String, number: u32) -> Result<()> {
    println!("--- request {number} sent");
    client.fetch(Request::get(&format!("{server}/{number}"))?).await?.bytes().await?;
    println!("--- response {number} received");
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(ServerOptions { latency: Duration::from_millis(400), ..ServerOptions::default() })?;
    let event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let client = Client::new(&handle, Limits::default());
    let url = server.url();
    let started = Instant::now();
    event_loop.block_on(async move {
        let first = handle.spawn(job(client.clone(), url.clone(), 1));
        let second = handle.spawn(job(client, url, 2));
        first.await?;
        second.await
    })??;
    println!("two requests in {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}
