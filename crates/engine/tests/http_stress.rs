//! Random cancellation must leave the pool whole: no slot lost, no waiter forgotten, no descriptor kept.

mod random;

use std::time::Duration;

use aioxide::EventLoop;
use aioxide::http::{Client, Limits, Request, Server, ServerOptions};
use random::Random;

/// `make stress` asks for more rounds, 20 of which make 100,000 requests.
fn requests() -> u64 {
    let rounds = std::env::var("AIOXIDE_STRESS_ROUNDS").map(|text| text.parse::<u64>());
    5000 * rounds.map_or(1, |rounds| rounds.expect("AIOXIDE_STRESS_ROUNDS is a number"))
}

fn seed() -> u64 {
    match std::env::var("AIOXIDE_SEED").map(|text| text.parse()) {
        Ok(seed) => seed.expect("AIOXIDE_SEED is a number"),
        Err(_) => aioxide::now_ns() | 1,
    }
}

#[test]
fn requests_that_are_dropped_anywhere_leave_the_pool_whole() {
    drop_anywhere(None);
}

#[test]
fn so_they_do_where_each_host_has_its_own_limit() {
    drop_anywhere(Some(3));
}

fn drop_anywhere(max_per_host: Option<usize>) {
    let seed = seed();
    println!("AIOXIDE_SEED={seed}");
    let mut random = Random(seed);
    let servers = [(); 3].map(|()| Server::start(ServerOptions::default()).unwrap());
    let paths = ["/", "/bytes/70000", "/stream/2/500/1", "/delay/1", "/last", "/truncate", "/close", "/redirect/2"];
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle().clone();
    let limits = Limits { max_connections: Some(7), max_per_host, max_keepalive: Some(3), ..Limits::default() };
    let client = Client::new(&handle, limits);
    let sources_before = handle.source_count();
    let running = client.clone();
    event_loop
        .block_on(async move {
            let mut tasks = Vec::new();
            for number in 0..requests() {
                let server = &servers[random.below(3)];
                let path = random.pick(&paths);
                let mut request = Request::get(&format!("{}{path}", server.url())).unwrap();
                request.max_redirects = u32::try_from(random.below(4)).unwrap();
                request.timeouts.total =
                    (random.below(4) == 0).then(|| Duration::from_micros(random.below(3000) as u64));
                request.timeouts.pool =
                    (random.below(4) == 0).then(|| Duration::from_micros(random.below(3000) as u64));
                let chunks = random.below(3);
                let client = running.clone();
                tasks.push(handle.spawn(async move {
                    let Ok(mut response) = client.fetch(request).await else { return };
                    if chunks == 0 {
                        // Dropped unread.
                        return;
                    }
                    while let Ok(Some(_)) = response.chunk().await {}
                }));
                if random.below(3) == 0 {
                    let victim = random.below(tasks.len());
                    drop(tasks.swap_remove(victim));
                }
                if number % 16 == 0 {
                    handle.sleep(Duration::from_micros(random.below(1500) as u64)).await;
                }
                let statistics = running.statistics();
                assert!(statistics.open <= 7, "never more connections than allowed: {statistics:?}");
            }
            for task in tasks {
                task.await;
            }
            let statistics = running.statistics();
            assert_eq!((statistics.in_flight, statistics.waiting), (0, 0));
            assert_eq!(statistics.open, statistics.idle);
            // The pool still works, with all of its slots.
            let tasks: Vec<_> = (0..7)
                .map(|number| {
                    let (client, url) = (running.clone(), format!("{}/delay/30", servers[number % 3].url()));
                    handle.spawn(async move { client.fetch(Request::get(&url).unwrap()).await?.bytes().await })
                })
                .collect();
            handle.sleep(Duration::from_millis(10)).await;
            assert_eq!(running.statistics().waiting, 0, "seven slots for seven requests");
            for task in tasks {
                task.await.unwrap();
            }
            running.close();
            handle.sleep(Duration::from_millis(5)).await;
            assert_eq!(running.statistics().open, 0);
            assert_eq!(handle.source_count(), sources_before, "no descriptor is left");
        })
        .unwrap();
}
