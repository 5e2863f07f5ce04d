//! What a request costs the client: CPU of its own thread per GET of 1 KiB, the server being another thread.
//!
//! `cargo bench --bench http -- [requests] [concurrency]`

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aioxide::http::{Client, Limits, Request, Server, ServerOptions, Timeouts};
use aioxide::{EventLoop, thread_cpu_time};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    // `cargo test --all-targets` only looks whether it runs.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let requests = numbers.next().unwrap_or(if measures { 100_000 } else { 200 });
    let concurrency = numbers.next().unwrap_or(100);
    let server = Server::start(ServerOptions { body_bytes: 1024, ..ServerOptions::default() })?;
    let url = format!("{}/", server.url());
    let event_loop = EventLoop::new()?;
    let handle = event_loop.handle().clone();
    let client = Client::new(&handle, Limits { max_connections: None, max_keepalive: None, ..Limits::default() });

    let (server_before, before, started) = (server.cpu_time(), thread_cpu_time()?, Instant::now());
    let left = Rc::new(Cell::new(requests));
    event_loop.block_on(async move {
        let workers: Vec<_> =
            (0..concurrency).map(|_| handle.spawn(work(client.clone(), url.clone(), Rc::clone(&left)))).collect();
        for worker in workers {
            worker.await?;
        }
        Ok::<(), aioxide::http::Error>(())
    })??;
    let (wall, after, server_after) = (started.elapsed(), thread_cpu_time()?, server.cpu_time());

    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(requests);
    let (user, system) = (after.0 - before.0, after.1 - before.1);
    println!("{requests} requests, {concurrency} at once, in {:.2} s", wall.as_secs_f64());
    println!(
        "client: {:.2} us of CPU per request (user {:.2}, system {:.2}), {:.0} requests per CPU second",
        per_request(user + system),
        per_request(user),
        per_request(system),
        1e6 / per_request(user + system),
    );
    let (user, system) = (server_after.0 - server_before.0, server_after.1 - server_before.1);
    println!(
        "server: {:.2} us (user {:.2}, system {:.2})",
        per_request(user + system),
        per_request(user),
        per_request(system)
    );
    Ok(())
}

async fn work(client: Client, url: String, left: Rc<Cell<u32>>) -> Result<(), aioxide::http::Error> {
    let limit = Some(Duration::from_secs(5));
    while left.get() > 0 {
        left.set(left.get() - 1);
        let mut request = Request::get(&url)?;
        request.timeouts = Timeouts { pool: limit, connect: limit, read: limit, write: limit, total: None };
        for (name, value) in [("accept", "*/*"), ("accept-encoding", "gzip, deflate"), ("user-agent", "bench")] {
            request.header(name.as_bytes(), value.as_bytes())?;
        }
        let body = client.fetch(request).await?.bytes().await?;
        assert_eq!(body.len(), 1024);
    }
    Ok(())
}
