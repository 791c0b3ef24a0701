//! `--max-bytes` bounds the memory of the process under churn and with many connections; large documents are not cached,
//! and expired entries free their memory; an entry takes what METRICS say.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::ask::parse;
use crate::support::fake::{Hello, answer_soundly};
use crate::support::{Address, Fake, Node, PATIENCE, Session, Start, ask, get, heavy, until};

const CONNECTIONS: u64 = 1000;

/// The limit of the cache in MiB; a variable changes it for runs by hand.
fn limit() -> u64 {
    std::env::var("TEST_CACHE_MIB").map_or(48, |mib| mib.parse().expect("a number of MiB"))
}

/// An origin of documents of 100 B to 1 MiB, the sizes log-uniform and constant per document.
fn churning_origin() -> Fake {
    let text = "x".repeat(1 << 20);
    Fake::start(Hello::Granted, move |asked| {
        let number = asked.path().and_then(|path| path.rsplit('/').next()?.parse().ok()).unwrap_or(0);
        let size = size_of(number);
        asked.reply(&format!("{{\"status\":\"OK\",\"data\":\"{}\"}}", &text[..size - 2]));
    })
}

fn size_of(number: u64) -> usize {
    (100.0 * f64::powf((1 << 20) as f64 / 100.0, fastrand::Rng::with_seed(number).f64())) as usize
}

/// Requests documents on a thousand sessions until `bytes` arrived; the sessions stay open until `at_end` has run.
fn churn(to: Address, bytes: u64, at_end: impl FnOnce()) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (next, came) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(Barrier::new(CONNECTIONS as usize + 1));
    let stay = Arc::new(Barrier::new(CONNECTIONS as usize + 1));
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (next, came, done, stay) = (next.clone(), came.clone(), done.clone(), stay.clone());
        let client = async move {
            let mut stream = BufReader::new(TcpStream::connect(to.0).await.expect("a connection"));
            stream.write_all(b"HELLO 2\n").await.expect("a proxy that reads");
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).await.expect("a session");
            while came.load(Ordering::Relaxed) < bytes {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let ask = format!("{number} GET doc/{number}\n");
                stream.write_all(ask.as_bytes()).await.expect("a proxy that reads");
                line = Vec::new();
                stream.read_until(b'\n', &mut line).await.expect("a reply");
                let size = size_of(number) as u64;
                assert!(line.len() as u64 > size, "{}", String::from_utf8_lossy(&line));
                came.fetch_add(size, Ordering::Relaxed);
            }
            done.wait().await;
            stay.wait().await;
            stream.read_u8().await.ok()
        };
        clients.spawn_on(client, runtime.handle());
    }
    runtime.block_on(async {
        timeout(PATIENCE * 4, done.wait()).await.expect("all requests in time");
        at_end();
        stay.wait().await;
    });
}

fn keeps_to_its_limit(kind: &str) {
    let _alone = heavy();
    let limit = limit();
    let origin = churning_origin();
    let words = "--capacity 1000000 --fetch-deadline 2m --line-deadline 2m --idle-deadline 5m";
    let proxy =
        Start::proxy(origin.address, &format!("--cache-type {kind} --ttl 1h --max-bytes {limit}MiB {words}"))
            .run();
    let idle = proxy.resident_mib();
    let most = limit * 115 / 100 + 40;
    churn(proxy.address, 10 * (limit << 20), || {
        let (peak, held) = (proxy.peak_mib(), proxy.count("bytes") as u64 >> 20);
        #[expect(clippy::print_stderr, reason = "the figures are wanted when the test is run by hand")]
        {
            eprintln!("{kind}: limit {limit} MiB, idle {idle}, held {held}, peak {peak} of {most}");
        }
        assert!(held > limit * 8 / 10 && held <= limit, "{held} MiB held of {limit}");
        assert!(peak <= most, "{kind}: {peak} MiB resident, {most} MiB promised");
        assert_eq!(parse(&ask(proxy.address, "PURGE doc/*"))["status"], "OK");
        until("all is removed", || proxy.count("bytes") == 0.0);
        // With all thousand connections still open.
        until("memory falls", || proxy.resident_mib() < idle + 40 + limit / 4);
    });
}

#[test]
fn ttl_keeps_to_its_limit_under_churn() {
    keeps_to_its_limit("ttl");
}

#[test]
fn lru_keeps_to_its_limit_under_churn() {
    keeps_to_its_limit("lru");
}

#[test]
fn s3fifo_keeps_to_its_limit_under_churn() {
    keeps_to_its_limit("s3fifo");
}

/// How much the memory of a proxy grows by a hundred thousand small documents, per document, and how much it says.
fn growth(kind: &str, size: usize) -> (f64, f64) {
    const MANY: u64 = 100_000;
    let text = "x".repeat(size - 2);
    let origin = Fake::start(Hello::Granted, move |asked| {
        asked.reply(&format!("{{\"status\":\"OK\",\"data\":\"{text}\"}}"));
    });
    let proxy =
        Start::proxy(origin.address, &format!("--cache-type {kind} --ttl 1h --capacity 1000000")).run();
    let mut session = Session::open(proxy.address);
    let mut fill = |keys: Range<u64>| {
        for first in keys.step_by(200) {
            session.ask_many(first..first + 200, |id| format!("GET article/{id}"));
        }
        (proxy.resident_kib() as f64 * 1024.0, proxy.count("bytes"))
    };
    // The buffers of threads and sessions are as large afterwards as they will be.
    let (resident, bytes) = fill(0..MANY / 5);
    let (resident_then, bytes_then) = fill(MANY / 5..MANY * 6 / 5);
    ((resident_then - resident) / MANY as f64, (bytes_then - bytes) / MANY as f64)
}

#[test]
fn an_entry_takes_little_beside_its_document_and_no_more_than_metrics_say() {
    let _alone = heavy();
    for (kind, beside) in [("ttl", 125.0), ("s3fifo", 125.0), ("lru", 170.0)] {
        let (takes, says) = growth(kind, 100);
        assert!(takes <= 100.0 + beside, "{kind}: {takes} B for a document of 100 B");
        assert!(takes <= says * 1.02, "{kind}: {takes} B, METRICS say {says}");
    }
    let (takes, says) = growth("ttl", 3000);
    assert!(takes <= says * 1.02, "{takes} B, METRICS say {says}");
}

#[test]
fn a_document_above_a_sixteenth_of_the_cache_is_not_cached() {
    // A sixteenth of 2 MiB is 128 KiB.
    let sizes = [1000, 100 * 1024, 140 * 1024, 900 * 1024];
    let origin = Fake::start(Hello::Granted, move |asked| {
        let size: usize = asked.path().and_then(|path| path.rsplit('/').next()?.parse().ok()).unwrap_or(0);
        asked.reply(&format!("{{\"status\":\"OK\",\"data\":\"{}\"}}", "x".repeat(size)));
    });
    for kind in ["ttl", "lru", "s3fifo"] {
        let proxy = Start::proxy(origin.address, &format!("--cache-type {kind} --max-bytes 2MiB")).run();
        for _ in 0..2 {
            for size in sizes {
                let reply = get(proxy.address, &format!("doc/{size}"));
                assert_eq!(
                    reply["data"].as_str().map(str::len),
                    Some(size),
                    "{kind}: it is served all the same"
                );
            }
        }
        let hits = sizes.map(|size| get(proxy.address, &format!("doc/{size}"))["cache_hit"] == true);
        assert_eq!(hits, [true, true, false, false], "{kind}");
        assert_eq!(
            (proxy.count("entries"), proxy.count("evictions")),
            (2.0, 0.0),
            "{kind}: nothing had to go"
        );
    }
}

#[test]
fn expired_entries_are_removed_without_requests() {
    // More entries than one slice of the sweep has.
    const MANY: u64 = 9_000;
    let origin = Fake::start(Hello::Granted, answer_soundly);
    let fill = |proxy: &Node| {
        let mut session = Session::open(proxy.address);
        // No more at once than are fetched at once: on a busy machine a queue refuses some.
        for first in (0..MANY).step_by(50) {
            session.ask_many(first..first + 50, |id| format!("GET article/{id}"));
        }
    };
    for kind in ["ttl", "lru", "s3fifo"] {
        let words = format!("--cache-type {kind} --ttl 1s --stale-if-error 0");
        let proxy = Start::proxy(origin.address, &words).run();
        let stays = Start::proxy(origin.address, &format!("--cache-type {kind} --ttl 1s")).run();
        fill(&proxy);
        fill(&stays);
        // Counted at the end of a slice, a moment after its entries are removed.
        until("all are removed", || {
            proxy.count("entries") == 0.0 && proxy.count("expirations") >= MANY as f64
        });
        let counts = ["expirations", "evictions", "bytes"].map(|name| proxy.count(name));
        assert_eq!(counts, [MANY as f64, 0.0, 0.0], "{kind}");
        assert_eq!(proxy.count("total_requests"), MANY as f64, "no request came");
        assert_eq!(stays.count("entries"), MANY as f64, "{kind}: these may be served when the origin fails");
    }
}
