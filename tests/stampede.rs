//! A stampede on a cold key costs the origin one fetch: shared by a bounded number of waiters for a bounded time, and
//! completed even if clients close.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::ask::parse;
use crate::support::fake::{Gate, Hello, answer_soundly};
use crate::support::over::{Over, over_both};
use crate::support::{Address, Fake, PATIENCE, Session, ask, at_once, get, heavy, pause, until};

/// Clients that request one key at once.
const CROWD: usize = 1000;

/// Connects all clients, lets them send at once, and returns the time from the first reply to the last, and all replies.
fn crowd(to: Address, path: &'static str) -> (Duration, Vec<String>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = runtime.block_on(async {
        let (mut clients, all_there) = (JoinSet::new(), Arc::new(Barrier::new(CROWD)));
        for _ in 0..CROWD {
            let all_there = all_there.clone();
            let client = async move {
                let mut stream = TcpStream::connect(to.0).await.expect("a connection");
                all_there.wait().await;
                stream.write_all(format!("GET {path}\n").as_bytes()).await.expect("a proxy that reads");
                let mut reply = String::new();
                stream.read_to_string(&mut reply).await.expect("a reply");
                (Instant::now(), reply)
            };
            clients.spawn(async { timeout(PATIENCE, client).await.expect("served in time") });
        }
        clients.join_all().await
    });
    let times = answers.iter().map(|(at, _)| *at);
    let spread = times.clone().max().expect("an answer") - times.min().expect("an answer");
    (spread, answers.into_iter().map(|(_, reply)| reply).collect())
}

over_both! {
    a_thousand_clients_on_a_cold_key_cost_one_fetch,
    a_fetch_goes_on_when_its_only_client_closes,
    waiters_are_bounded,
    the_wait_is_bounded_in_time,
    a_failure_is_shared_by_all_waiters_and_not_cached,
    concurrent_fetches_are_bounded_and_the_others_wait,
    fetches_that_would_start_too_late_are_refused_at_once,
}

fn a_thousand_clients_on_a_cold_key_cost_one_fetch(over: Over) {
    let _alone = heavy();
    let origin = Fake::start(Hello::Granted, |asked| {
        asked.answer_soundly_after(|| pause(Duration::from_millis(200)));
    });
    let proxy = over.proxy(origin.address, "--line-deadline 1m").run();
    let (spread, replies) = crowd(proxy.address, "article/1");
    assert!(replies.iter().all(|reply| parse(reply)["data"]["path"] == "article/1"));
    assert_eq!(origin.requests(), ["GET article/1"]);
    assert_eq!(proxy.count("origin_fetches"), 1.0);
    assert_eq!(proxy.count("hits") + proxy.count("misses"), CROWD as f64);
    assert!(proxy.count("coalesced") > 0.0, "they waited for a fetch of another");
    // A waiter that polled for the result would be late by a poll interval, half a second in other implementations.
    #[expect(clippy::print_stderr, reason = "the figure is wanted when the test is run by hand")]
    {
        eprintln!("the last of {CROWD} answers came {spread:?} after the first");
    }
    assert!(spread < Duration::from_secs(5), "the last answer came {spread:?} after the first");
}

fn a_fetch_goes_on_when_its_only_client_closes(over: Over) {
    let gate = Gate::default();
    let origin = gate.peer();
    let proxy = over.proxy(origin.address, "").run();
    let mut only = Session::open(proxy.address);
    only.send("1 GET article/1\n");
    until("the fetch has begun", || !origin.requests().is_empty());
    drop(only);
    gate.open();
    let explained = || parse(&ask(proxy.address, "EXPLAIN article/1"))["data"].take();
    until("the document is cached", || explained()["cached"] == true);
    assert_eq!(get(proxy.address, "article/1")["cache_hit"], true);
    assert_eq!(origin.requests().len(), 1);
}

fn waiters_are_bounded(over: Over) {
    let gate = Gate::default();
    let origin = gate.peer();
    let proxy = over.proxy(origin.address, "--max-waiters 3 --fetch-deadline 20s").run();
    let mut waiting = Session::open(proxy.address);
    waiting.send("1 GET article/1\n2 GET article/1\n3 GET article/1\n4 GET article/1\n");
    let (turned_away, reply) = waiting.reply();
    assert_eq!((turned_away, &parse(&reply)["status"]), (4, &"OVERLOADED".into()), "{reply}");
    assert_eq!(get(proxy.address, "article/1")["status"], "OVERLOADED");
    gate.open();
    for (id, reply) in waiting.replies_to([1, 2, 3]) {
        assert_eq!(parse(&reply)["status"], "OK", "{id}: {reply}");
    }
    assert_eq!(get(proxy.address, "article/1")["cache_hit"], true);
    assert_eq!(origin.requests().len(), 1);
}

fn the_wait_is_bounded_in_time(over: Over) {
    let origin = Gate::default().peer();
    let proxy = over.proxy(origin.address, "--fetch-deadline 300ms").run();
    let began = Instant::now();
    at_once(vec![(); 10], |()| assert_eq!(get(proxy.address, "article/1")["status"], "ORIGIN_FAILURE"));
    assert!(
        began.elapsed() < PATIENCE / 2,
        "the origin never answers, and they waited for {:?}",
        began.elapsed()
    );
    // A client that came after the deadline of the first fetch starts another one.
    assert!(proxy.count("origin_fetches") < 10.0);
}

fn a_failure_is_shared_by_all_waiters_and_not_cached(over: Over) {
    let gate = Gate::default();
    let (held, failed) = (gate.clone(), AtomicBool::new(false));
    // The first request fails once all the others wait for it.
    let origin = Fake::start(Hello::Refused, move |asked| match failed.swap(true, Ordering::SeqCst) {
        true => answer_soundly(asked),
        false => {
            held.wait();
            asked.reply("hello");
        }
    });
    let proxy = over.proxy(origin.address, "--fetch-deadline 20s").run();
    let mut waiting = Session::open(proxy.address);
    waiting.send_many(0..10, |_| "GET article/1".to_owned());
    until("all wait", || proxy.count("coalesced") == 9.0);
    gate.open();
    for (id, reply) in waiting.replies_to(0..10) {
        assert_eq!(parse(&reply)["status"], "ORIGIN_FAILURE", "{id}: {reply}");
    }
    assert_eq!(origin.requests().len(), 1, "one failure for all waiters");
    assert_eq!(get(proxy.address, "article/1")["status"], "OK", "the failure is not cached");
    assert_eq!(origin.requests().len(), 2);
}

fn concurrent_fetches_are_bounded_and_the_others_wait(over: Over) {
    let origin = Busy::origin(Duration::from_millis(20));
    let proxy = over.proxy(origin.0.address, "--max-fetches 4 --fetch-deadline 20s").run();
    let mut session = Session::open(proxy.address);
    for (id, reply) in session.ask_many(0..60, |id| format!("GET article/{id}")) {
        assert_eq!(parse(&reply)["data"]["path"], format!("article/{id}"), "{reply}");
    }
    assert_eq!(origin.most(), 4, "requests at once at the origin");
    assert_eq!(origin.0.requests().len(), 60);
}

fn fetches_that_would_start_too_late_are_refused_at_once(over: Over) {
    let origin = Busy::origin(Duration::from_millis(300));
    let proxy = over.proxy(origin.0.address, "--max-fetches 1 --fetch-deadline 4s").run();
    assert_eq!(get(proxy.address, "article/0")["status"], "OK", "now it knows how long a fetch takes");
    let mut session = Session::open(proxy.address);
    session.send_many(1..41, |id| format!("GET article/{id}"));
    // The deadline is time for thirteen more, or fewer on a loaded machine.
    let (first, reply) = session.reply();
    assert_eq!(parse(&reply)["status"], "OVERLOADED", "{first}: no fetch has started yet");
    let others = session.replies_to((1..=40).filter(|&id| id != first));
    let count = |status| others.values().filter(|reply| parse(reply)["status"] == status).count();
    let (good, refused) = (count("OK"), count("OVERLOADED"));
    assert!(good + refused == 39 && refused >= 24 && good >= 1, "{good} good, {refused} refused");
    assert_eq!(origin.0.requests().len(), 1 + good, "a refused request costs the origin nothing");
    assert_eq!(get(proxy.address, "article/40")["status"], "OK", "there is room again");
}

/// A slow origin that counts its concurrent requests.
struct Busy(Fake, Arc<Mutex<(usize, usize)>>);

impl Busy {
    fn origin(slowness: Duration) -> Self {
        let counts = Arc::new(Mutex::new((0, 0)));
        let seen = counts.clone();
        let origin = Fake::start(Hello::Granted, move |asked| {
            {
                let mut counts = seen.lock().expect("the counts");
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
            }
            let seen = seen.clone();
            asked.answer_soundly_after(move || {
                pause(slowness);
                seen.lock().expect("the counts").0 -= 1;
            });
        });
        Self(origin, counts)
    }

    fn most(&self) -> usize {
        self.1.lock().expect("the counts").1
    }
}
