//! The pure parts of the protocol, timed: `cargo bench --bench wire`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dproxy::lb::balance::{Candidate, Candidates, Load, Pick, Strategy, WHOLE};
use dproxy::proxy::cache::{Entry, Millis};
use dproxy::proxy::{Freshness, Vouched};
use dproxy::wire::request::split_id;
use dproxy::wire::{Document, KeyBuf, Reply, ReplyView, Request, Served, json};

/// The largest document here.
const LIMIT: usize = 1 << 20;

/// A document of about `size` bytes: half text, half numbers, with white space as in stored files.
fn document(size: usize) -> String {
    let words = "alpha bravo charlie \\u00e9 ".repeat(size / 60);
    let numbers: Vec<String> = (0..size / 14).map(|i| format!("{{\"n\": {}.5}}", i % 1000)).collect();
    format!(
        "{{\n  \"id\": \"article/1\",\n  \"body\": \"{words}\",\n  \"list\": [{}]\n}}\n",
        numbers.join(", ")
    )
}

fn tight(size: usize) -> Document {
    Document::parse(document(size).as_bytes(), LIMIT).expect("a document")
}

fn hit(document: Document) -> Reply {
    Reply::document(document).with(Served {
        cache_hit: true,
        node: 8001,
        age: 3,
        stale: false,
        fresh_for: Some(9),
        ..Served::default()
    })
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse a request");
    for (name, line) in [
        ("GET", "GET article/123456"),
        ("GET with options", "GET article/123456 deadline=2500 trace=4bf92f3577b34da6"),
        ("PURGE", "PURGE soft shop/eu/*"),
        ("bad", "GET article/../etc/passwd"),
    ] {
        group.bench_function(name, |b| b.iter(|| Request::parse_with_options(black_box(line)).is_ok()));
    }
    group.bench_function("id", |b| b.iter(|| split_id(black_box(b"123456789 GET article/123456"))));
    group.finish();
}

fn texts(c: &mut Criterion) {
    for size in [100, 1_000, 100_000] {
        let text = document(size);
        let mut line = Vec::new();
        hit(tight(size)).frame(None, false, &mut line);
        line.pop();
        let mut group = c.benchmark_group("json");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("check", size), &text, |b, text| {
            b.iter(|| json::check(black_box(text)));
        });
        group.bench_with_input(BenchmarkId::new("strip", size), &text, |b, text| {
            b.iter(|| json::strip(black_box(text)));
        });
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_with_input(BenchmarkId::new("parse a reply", size), &line, |b, line| {
            b.iter(|| ReplyView::parse(black_box(line)).is_ok());
        });
        group.finish();
    }
}

fn replies(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame a reply");
    for size in [100, 1_000, 100_000] {
        let reply = hit(tight(size));
        let mut out = Vec::with_capacity(2 * size + 4096);
        group.bench_function(BenchmarkId::new("hit", size), |b| {
            b.iter(|| {
                out.clear();
                black_box(&reply).frame(Some(123_456), false, &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

/// A node whose load stays as it is.
struct Idle {
    in_flight: u64,
    total: u64,
}

impl Load for Idle {
    fn in_flight(&self) -> u64 {
        self.in_flight
    }

    fn total(&self, _reported: bool) -> u64 {
        self.total
    }

    fn latency_us(&self, _now: u64) -> u64 {
        100
    }
}

/// Keys in turn: so many that `hash` keeps their homes beside a thousand nodes, and more than that.
fn strategies(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick a node");
    for (strategy, keys) in
        Strategy::ALL.map(|strategy| (strategy, 10_000)).into_iter().chain([(Strategy::Hash, 1_000_000)])
    {
        let keys: Vec<KeyBuf> =
            (0..keys).map(|key| KeyBuf::parse(&format!("article/{key}")).expect("a key")).collect();
        for nodes in [3, 10, 64, 1_000] {
            let balance = strategy.build();
            let candidate = |index: usize| Candidate {
                index,
                id: (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                weight: 100,
                share: WHOLE,
                load: Arc::new(Idle { in_flight: (index as u64 * 7) % 5, total: index as u64 }),
            };
            let among = Candidates::new((0..nodes).map(candidate).collect(), balance.goes_by_key(), true);
            let name = format!("{}, {} keys", strategy.as_str(), keys.len());
            group.bench_function(BenchmarkId::new(name, nodes), |b| {
                let mut keys = keys.iter().cycle();
                b.iter(|| {
                    let key = keys.next().expect("a key").as_key();
                    balance.pick(black_box(&Pick { key, now: 0, may: &|_| true }), black_box(&among))
                });
            });
        }
    }
    group.finish();
}

fn freshness(c: &mut Criterion) {
    let second = Duration::from_secs(1);
    let rules = Freshness {
        ttl: Some(30 * second),
        ttl_jitter: 0.1,
        stale_while_revalidate: 5 * second,
        stale_if_error: 60 * second,
        negative_ttl: second,
        ..Freshness::default()
    };
    let fetch = Duration::from_millis(20);
    let entry = Entry::new("article/1", Some(tight(100)), Millis(0), Some(30 * second), fetch);
    let mut group = c.benchmark_group("freshness");
    for (name, now) in [("fresh", 1_000), ("near its end", 29_900), ("stale", 31_000)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                rules.verdict(black_box(&entry), Vouched::NOTHING, black_box(Millis(now)), fastrand::f64)
            });
        });
    }
    group.finish();
}

criterion_group!(pure, requests, texts, replies, strategies, freshness);
criterion_main!(pure);
