//! What happens when the process has no descriptor left. A test of its own, since the limit is the whole process's.

use std::fs::File;

use aioxide::EventLoop;
use aioxide::http::{Client, ErrorKind, Limits, Request, Server, ServerOptions};

#[test]
fn a_process_without_descriptors_says_so_and_recovers() {
    let server = Server::start(ServerOptions::default()).unwrap();
    let event_loop = EventLoop::new().unwrap();
    let client = Client::new(event_loop.handle(), Limits::default());
    let request = || Request::get(&server.url()).unwrap();
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = Some(64);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }

    let fetch = |request| {
        let client = client.clone();
        event_loop.block_on(async move { client.fetch(request).await?.bytes().await }).unwrap()
    };
    let error = fetch(request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().ends_with("too many open files while connecting"), "{error}");
    assert_eq!(client.statistics().open, 0);

    // One descriptor for the client: the server cannot accept, and does so as soon as it can.
    files.pop();
    let freed = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(files);
    });
    assert_eq!(fetch(request()).unwrap(), "/");
    freed.join().unwrap();
}
