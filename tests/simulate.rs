//! `dproxy simulate` against naive models of the caches, on generated traces.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::TempDir;
use crate::support::ask::parse;
use crate::support::command::{BINARY, clean, dproxy, make_fifo, run_to_end, text};

const KEYS: u64 = 4000;
const REQUESTS: usize = 60_000;

/// A trace like a real log: few keys are popular, their choice drifts, and now and then a scan reads many keys once.
fn trace() -> Vec<u64> {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut keys = Vec::with_capacity(REQUESTS);
    let mut scanned = 1_000_000;
    while keys.len() < REQUESTS {
        // Log-uniform, close to zipf(1.0).
        let rank = (KEYS as f64).powf(rng.f64()) as u64 - 1;
        keys.push(rank + keys.len() as u64 / 20_000 * 50);
        if rng.u32(0..2000) == 0 {
            keys.extend(scanned..scanned + 200);
            scanned += 200;
        }
    }
    keys.truncate(REQUESTS);
    keys
}

fn distinct(trace: &[u64]) -> usize {
    trace.iter().collect::<HashSet<_>>().len()
}

/// Misses of an exact LRU: a list, the most recent last.
fn lru_misses(trace: &[u64], capacity: usize) -> u64 {
    let (mut clock, mut used, mut order) = (0_u64, HashMap::new(), std::collections::BTreeMap::new());
    let mut misses = 0;
    for &key in trace {
        clock += 1;
        match used.insert(key, clock) {
            Some(before) => drop(order.remove(&before)),
            None => misses += 1,
        }
        order.insert(clock, key);
        if used.len() > capacity {
            let (_, oldest) = order.pop_first().expect("more than the capacity");
            used.remove(&oldest);
        }
    }
    misses
}

/// Misses of first in, first out.
fn fifo_misses(trace: &[u64], capacity: usize) -> u64 {
    let (mut held, mut order, mut misses) = (HashSet::new(), VecDeque::new(), 0);
    for &key in trace {
        if held.insert(key) {
            misses += 1;
            order.push_back(key);
            if order.len() > capacity {
                held.remove(&order.pop_front().expect("more than the capacity"));
            }
        }
    }
    misses
}

/// Misses of S3-FIFO by the algorithm of the paper (Yang et al., SOSP 2023), with promotion at the second hit.
fn s3fifo_misses(trace: &[u64], capacity: usize) -> u64 {
    let small_most = (capacity / 10).max(1);
    let (mut small, mut main, mut ghost) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
    let (mut uses, mut ghosts): (HashMap<u64, u8>, HashSet<u64>) = Default::default();
    let mut misses = 0;
    for &key in trace {
        if let Some(uses) = uses.get_mut(&key) {
            *uses = (*uses + 1).min(3);
            continue;
        }
        misses += 1;
        while small.len() + main.len() >= capacity {
            if small.len() >= small_most || main.is_empty() {
                let oldest: u64 = small.pop_front().expect("an entry");
                if uses[&oldest] >= 2 {
                    uses.insert(oldest, 0);
                    main.push_back(oldest);
                    continue;
                }
                uses.remove(&oldest);
                if ghosts.insert(oldest) {
                    ghost.push_back(oldest);
                }
                while ghost.len() > capacity - small_most {
                    ghosts.remove(&ghost.pop_front().expect("a ghost"));
                }
            } else {
                let oldest: u64 = main.pop_front().expect("an entry");
                match uses[&oldest] {
                    0 => drop(uses.remove(&oldest)),
                    used => {
                        uses.insert(oldest, used - 1);
                        main.push_back(oldest);
                    }
                }
            }
        }
        uses.insert(key, 0);
        if ghosts.remove(&key) {
            ghost.retain(|&ghost| ghost != key);
            main.push_back(key);
        } else {
            small.push_back(key);
        }
    }
    misses
}

fn lines(trace: &[u64]) -> String {
    trace.iter().map(|key| format!("article/{key}\n")).collect()
}

/// A file of these bytes, in a directory that is removed on drop.
pub(crate) fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = TempDir::new();
    let path = dir.path().join("trace");
    std::fs::write(&path, bytes).expect("a trace");
    (dir, path)
}

/// Runs `dproxy simulate`; one JSON object per type and size.
pub(crate) fn simulate(path: &Path, words: &str) -> Vec<Value> {
    let mut args = vec!["simulate", "--output", "json", "--trace", path.to_str().expect("a path")];
    args.extend(words.split_whitespace());
    let output = dproxy(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "no progress beside JSON");
    text(&output.stdout).lines().map(parse).collect()
}

/// The bytes as one zstd frame of uncompressed blocks (RFC 8878), made without a compressor.
fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 100_000;
    // Magic; neither sizes nor checksum follow; a window of 1 MiB.
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x50];
    let blocks = bytes.chunks(BLOCK);
    let last = blocks.len() - 1;
    for (index, block) in blocks.enumerate() {
        let header = u32::from(index == last) | (block.len() as u32) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

#[test]
fn one_shard_misses_what_a_naive_model_misses() {
    let trace = trace();
    let keys = distinct(&trace);
    let (_dir, path) = file(lines(&trace).as_bytes());
    let runs = simulate(&path, "--cache-type lru,ttl,s3fifo --capacity 1%,5%,10%,2000 --shards 1");
    assert_eq!(runs.len(), 12);
    for run in runs {
        let number = |name: &str| run[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {run}"));
        let (capacity, misses) = (number("capacity") as usize, number("misses"));
        let percent = |part: f64| (keys as f64 * part).round() as usize;
        assert!([percent(0.01), percent(0.05), percent(0.1), 2000].contains(&capacity), "{run}");
        assert_eq!((number("requests"), number("shards")), (REQUESTS as u64, 1), "{run}");
        assert_eq!(run["trace"], path.to_str().expect("a path"));
        let ratio = run["miss_ratio"].as_f64().expect("a ratio");
        assert!((ratio - misses as f64 / REQUESTS as f64).abs() < 1e-9, "{run}");
        match run["cache_type"].as_str() {
            Some("lru") => assert_eq!(misses, lru_misses(&trace, capacity), "{run}"),
            Some("ttl") => assert_eq!(misses, fifo_misses(&trace, capacity), "{run}"),
            Some("s3fifo") => {
                let model = s3fifo_misses(&trace, capacity) as f64 / REQUESTS as f64;
                assert!((ratio - model).abs() < 0.01, "the model misses {model}: {run}");
            }
            _ => panic!("{run}"),
        }
    }
}

#[test]
fn the_shards_of_a_proxy_cost_few_misses() {
    // Enough keys for a proxy to divide its cache.
    let mut rng = fastrand::Rng::with_seed(5);
    let trace: Vec<u64> = (0..200_000).map(|_| 100_000_f64.powf(rng.f64()) as u64).collect();
    let (_dir, path) = file(lines(&trace).as_bytes());
    let runs = simulate(&path, "--cache-type lru,s3fifo --capacity 8000");
    let whole = simulate(&path, "--cache-type lru,s3fifo --capacity 8000 --shards 1");
    let ratio = |run: &Value| run["miss_ratio"].as_f64().expect("a ratio");
    assert!(runs[0]["shards"].as_u64() > Some(1), "{}", runs[0]);
    assert!((ratio(&runs[0]) - ratio(&whole[0])).abs() < 0.002, "{} in one shard: {}", runs[0], whole[0]);
    // The shards of its map are no parts of its order.
    assert_eq!(runs[1], whole[1]);
}

#[test]
fn s3fifo_misses_least_when_most_keys_are_requested_once() {
    let (_dir, path) = file(lines(&trace()).as_bytes());
    let runs = simulate(&path, "--cache-type ttl,lru,s3fifo --capacity 5%");
    let misses: Vec<u64> = runs.iter().map(|run| run["misses"].as_u64().expect("misses")).collect();
    assert!(misses[2] < misses[1] && misses[1] < misses[0], "ttl, lru, s3fifo: {misses:?}");
}

#[test]
fn a_compressed_trace_gives_the_same_figures() {
    let text = lines(&trace());
    let runs = [text.clone().into_bytes(), zstd_frame(text.as_bytes()), text.trim_end().as_bytes().to_vec()];
    let misses = runs.map(|bytes| {
        let (_dir, path) = file(&bytes);
        let run = simulate(&path, "--cache-type lru,s3fifo --capacity 10%");
        (run[0]["requests"].clone(), run[0]["misses"].clone(), run[1]["misses"].clone())
    });
    assert_eq!(misses[0].0, REQUESTS);
    assert!(misses[0] == misses[1] && misses[0] == misses[2], "{misses:?}");
}

#[test]
fn a_broken_trace_is_an_error_and_no_figures() {
    let whole = zstd_frame(lines(&trace()).as_bytes());
    for bytes in [&whole[..whole.len() / 2], b"", b"\n\n", &whole[..5]] {
        let (_dir, path) = file(bytes);
        let output = dproxy(&["simulate", "--output", "json", "--trace", path.to_str().expect("a path")]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
        assert!(text(&output.stderr).contains(path.to_str().expect("a path")), "{}", text(&output.stderr));
    }
}

#[test]
fn a_file_that_is_no_trace_is_one_error_line() {
    let (dir, gzip) = file(b"\x1f\x8b\x08\0");
    let fifo = dir.path().join("fifo");
    make_fifo(&fifo);
    let gone = dir.path().join("gone");
    for (path, why) in [(&gone, "No such file"), (&fifo, "not a file"), (&gzip, "gunzip")] {
        let output = dproxy(&["simulate", "--trace", path.to_str().expect("a path")]);
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
        assert_eq!(told.matches(why).count(), 1, "{told}");
    }
}

#[test]
fn a_reader_that_closes_after_the_first_line_is_no_failure() {
    let (_dir, path) = file(lines(&trace()).as_bytes());
    let mut shell = clean("bash");
    let line = "set -o pipefail; \"$0\" simulate --trace \"$1\" | head -1";
    shell.args(["-c", line, BINARY]).arg(&path);
    let output = run_to_end(shell, b"");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}
