//! The caches of a proxy beside quick_cache and moka: `cargo bench --bench cache`.
//!
//! `get-or-insert`: two threads look up keys of a zipf(1.0) distribution over a million, with a capacity of a hundred
//! thousand, and insert missing ones; the time is per key. All hash with foldhash and hold the same entries; single
//! flight is not measured, so each is used by its plain `get` and `insert`. `hit`: one thread, all keys cached. `walk`: what
//! sweeps and purges do.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dproxy::proxy::cache::{Bounds, Cache, CacheType, Entry, Millis, build};
use dproxy::wire::Document;
use foldhash::quality::RandomState;
use tokio::time::Instant;

const KEYS: usize = 1_000_000;
const ENTRIES: usize = 100_000;
const THREADS: usize = 2;
/// Keys of a thread, in a cycle.
const ROUND: usize = 1 << 21;

/// The operations that all of them have.
trait Contender: Sync {
    fn get(&self, key: &str) -> Option<Entry>;
    fn insert(&self, key: &str, entry: Entry);
}

struct Ours(Box<dyn Cache>);

impl Contender for Ours {
    fn get(&self, key: &str) -> Option<Entry> {
        self.0.get(key)
    }

    fn insert(&self, _: &str, entry: Entry) {
        self.0.insert(entry);
    }
}

type QuickCache = quick_cache::sync::Cache<Box<str>, Entry, quick_cache::UnitWeighter, RandomState>;

impl Contender for QuickCache {
    fn get(&self, key: &str) -> Option<Entry> {
        QuickCache::get(self, key)
    }

    fn insert(&self, key: &str, entry: Entry) {
        QuickCache::insert(self, key.into(), entry);
    }
}

type Moka = moka::sync::Cache<Box<str>, Entry, RandomState>;

impl Contender for Moka {
    fn get(&self, key: &str) -> Option<Entry> {
        Moka::get(self, key)
    }

    fn insert(&self, key: &str, entry: Entry) {
        Moka::insert(self, key.into(), entry);
    }
}

fn contenders() -> Vec<(String, Box<dyn Contender>)> {
    let bounds = Bounds { entries: ENTRIES, bytes: usize::MAX };
    let ours = CacheType::ALL.map(|cache_type| {
        let contender: Box<dyn Contender> = Box::new(Ours(build(cache_type, bounds)));
        (format!("dproxy {cache_type}"), contender)
    });
    let quick_cache = QuickCache::with(
        ENTRIES,
        ENTRIES as u64,
        quick_cache::UnitWeighter,
        RandomState::default(),
        quick_cache::sync::DefaultLifecycle::default(),
    );
    let moka =
        moka::sync::Cache::builder().max_capacity(ENTRIES as u64).build_with_hasher(RandomState::default());
    let mut all = Vec::from(ours);
    all.push(("quick_cache".to_owned(), Box::new(quick_cache)));
    all.push(("moka".to_owned(), Box::new(moka)));
    all
}

/// Keys as a proxy sees them, in no order of popularity in memory.
fn keys() -> Vec<Box<str>> {
    let mut keys: Vec<Box<str>> = (0..KEYS).map(|key| format!("article/{key}").into()).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    keys
}

/// The requested keys: the n-th most popular with a probability proportional to 1/n.
fn zipf(seed: u64, count: usize) -> Vec<u32> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut one = || sums.partition_point(|below| *below < random.f64() * sum).min(KEYS - 1) as u32;
    (0..count).map(|_| one()).collect()
}

fn entry(key: &str, document: &Document) -> Entry {
    Entry::new(key, Some(document.clone()), Millis(0), None, Duration::ZERO)
}

fn get_or_insert(cache: &dyn Contender, key: &str, document: &Document) -> Entry {
    cache.get(key).unwrap_or_else(|| {
        let entry = entry(key, document);
        cache.insert(key, entry.clone());
        entry
    })
}

/// The time of all threads together for `count` keys.
fn race(
    cache: &dyn Contender,
    keys: &[Box<str>],
    asked: &[Vec<u32>],
    document: &Document,
    count: u64,
) -> Duration {
    let start = Barrier::new(asked.len() + 1);
    let first = fastrand::usize(..ROUND);
    let each = count.div_ceil(asked.len() as u64) as usize;
    std::thread::scope(|scope| {
        for asked in asked {
            let (start, round) = (&start, asked.iter().cycle().skip(first).take(each));
            scope.spawn(move || {
                start.wait();
                for &key in round {
                    black_box(get_or_insert(cache, &keys[key as usize], document));
                }
            });
        }
        start.wait();
        Instant::now()
    })
    .elapsed()
}

fn compare(criterion: &mut Criterion) {
    let keys = keys();
    let asked: Vec<Vec<u32>> = (0..THREADS as u64).map(|seed| zipf(seed, ROUND)).collect();
    let document = Document::parse(br#"{"id":1}"#, 100).expect("a document");
    let mut group = criterion.benchmark_group("get-or-insert");
    group.throughput(Throughput::Elements(1));
    for (name, cache) in contenders() {
        race(&*cache, &keys, &asked, &document, ROUND as u64);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|count| race(&*cache, &keys, &asked, &document, count));
        });
    }
    group.finish();
}

fn hit(criterion: &mut Criterion) {
    let keys = keys();
    let document = Document::parse(br#"{"id":1}"#, 100).expect("a document");
    // Half full with the first keys: no shard evicts.
    let held = &keys[..ENTRIES / 2];
    let mut group = criterion.benchmark_group("hit");
    group.throughput(Throughput::Elements(1));
    for (name, cache) in contenders() {
        held.iter().for_each(|key| cache.insert(key, entry(key, &document)));
        let mut random = fastrand::Rng::with_seed(2);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| cache.get(&held[random.usize(..held.len())]));
        });
    }
    group.finish();
}

/// The time per entry of a walk through a million, of which a third came later than the others: one that keeps all, as most
/// sweeps do, and one that removes all, as a purge may. A lock is held for a slice, 512 entries.
fn walk(criterion: &mut Criterion) {
    let keys = keys();
    let document = Document::parse(br#"{"id":1}"#, 100).expect("a document");
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(1));
    for cache_type in CacheType::ALL {
        for (name, keep) in [("that keeps", true), ("that removes", false)] {
            let cache = build(cache_type, Bounds { entries: KEYS * 2 / 3, bytes: usize::MAX });
            // For enough whole walks, the time of as many entries as are wanted.
            let timed = |count: u64| {
                let (mut took, mut seen) = (Duration::ZERO, 0);
                while seen < count {
                    keys.iter().for_each(|key| _ = cache.insert(entry(key, &document)));
                    let began = Instant::now();
                    for slice in 0..cache.slices() {
                        cache.retain(slice, &mut |entry| {
                            seen += 1;
                            black_box(entry).is_fresh(Millis(1)) && keep
                        });
                    }
                    took += began.elapsed();
                }
                took.mul_f64(count as f64 / seen as f64)
            };
            group.bench_function(BenchmarkId::new(cache_type.name(), name), |b| b.iter_custom(timed));
        }
    }
    group.finish();
}

criterion_group!(benches, compare, hit, walk);
criterion_main!(benches);
