//! The promises of the `Cache` trait, tested for each cache type.

use std::time::Duration;

use super::*;
use crate::wire::Document;

/// An entry whose document is a string of `size` letters.
pub(super) fn entry(key: &str, size: usize) -> Entry {
    let text = format!("\"{}\"", "x".repeat(size));
    let document = Document::parse(text.as_bytes(), usize::MAX).expect("a JSON string");
    Entry::new(key, Some(document), Millis(0), None, Duration::from_millis(1))
}

fn size(entry: &Entry) -> usize {
    entry.size() - 2
}

fn bounds(entries: usize, bytes: usize) -> Bounds {
    Bounds { entries, bytes }
}

/// Runs a check for each type, with one shard and with several.
fn for_each(bounds: Bounds, check: impl Fn(&dyn Cache, &str)) {
    for cache_type in CacheType::ALL {
        for shards in [1, 2, 7, 64] {
            let layout = Layout::of(bounds).with_shards(shards).with_seed(shards as u64);
            check(&*build_as(cache_type, &layout), &format!("{cache_type} with {shards} shards"));
        }
    }
}

/// Inserts `prefix/0`, `prefix/1` and so on.
fn fill(cache: &dyn Cache, prefix: &str, count: usize, size: usize) {
    for key in 0..count {
        assert!(cache.insert(entry(&format!("{prefix}/{key}"), size)));
    }
}

fn clear(cache: &dyn Cache) -> usize {
    (0..cache.slices()).map(|slice| cache.retain(slice, &mut |_| false)).sum()
}

#[test]
fn inserts_finds_and_removes() {
    for_each(bounds(1000, 1 << 20), |cache, name| {
        assert!(cache.get("a/1").is_none() && cache.remove("a/1").is_none(), "{name}");
        assert!(cache.insert(entry("a/1", 5)) && cache.insert(entry("a/2", 6)), "{name}");
        assert_eq!(cache.get("a/1").map(|entry| size(&entry)), Some(5), "{name}");
        assert_eq!(cache.peek("a/2").map(|entry| size(&entry)), Some(6), "{name}");
        assert_eq!(cache.usage().entries, 2, "{name}");
        assert_eq!(cache.remove("a/1").map(|entry| size(&entry)), Some(5), "{name}");
        assert!(cache.get("a/1").is_none() && cache.get("a/2").is_some(), "{name}");
    });
}

#[test]
fn replaces_the_entry_of_a_key() {
    for_each(bounds(1000, 1 << 20), |cache, name| {
        let mut new_ones = Vec::new();
        for size_of_it in [5, 500, 50] {
            let new = entry("a/1", size_of_it);
            assert!(cache.insert(new.clone()), "{name}");
            assert!(cache.get("a/1").is_some_and(|held| held.is_same(&new)), "{name}");
            let usage = Usage { entries: 1, bytes: cache.weight(&new), ..Usage::default() };
            assert_eq!(cache.usage(), usage, "{name}");
            new_ones.push(new);
        }
        let free = new_ones.iter().filter(|entry| entry.holders() == 1).count();
        assert_eq!(free, 2, "{name}: replaced entries are freed");
    });
}

#[test]
fn keeps_the_bound_of_entries_exactly() {
    for entries in [1, 2, 3, 10, 100, 1000] {
        for_each(bounds(entries, usize::MAX), |cache, name| {
            for key in 0..3000 {
                let new = entry(&format!("a/{key}"), 1);
                assert!(cache.insert(new.clone()), "{name}");
                assert!(cache.usage().entries <= entries, "{name} of {entries}");
                assert!(cache.peek(new.key()).is_some(), "{name} of {entries}: the newest is held");
            }
            assert_eq!(cache.usage().entries, entries, "{name}: full");
            assert_eq!(cache.usage().evictions as usize, 3000 - entries, "{name}");
            let held = (0..3000).filter(|key| cache.peek(&format!("a/{key}")).is_some()).count();
            assert_eq!(held, entries, "{name}");
        });
    }
}

#[test]
fn a_full_cache_replaces_without_evicting_others() {
    for_each(bounds(3, usize::MAX), |cache, name| {
        fill(cache, "a", 3, 1);
        let before = cache.usage();
        let held: Vec<_> =
            (0..3).map(|key| format!("a/{key}")).filter(|key| cache.peek(key).is_some()).collect();
        assert!(held.iter().all(|key| cache.insert(entry(key, 1))), "{name}");
        assert_eq!(cache.usage(), before, "{name}");
        assert!(held.iter().all(|key| cache.peek(key).is_some()), "{name}");
    });
}

#[test]
fn keeps_the_bound_of_bytes() {
    let limit = 256 << 10;
    for_each(bounds(100_000, limit), |cache, name| {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..4000 {
            let new = entry(&format!("a/{}", random.u16(..2000)), 1 << random.u32(..14));
            let admitted = cache.weight(&new) <= limit / 16;
            assert_eq!(cache.insert(new.clone()), admitted, "{name}");
            assert!(cache.usage().bytes <= limit, "{name}");
            if random.bool() {
                cache.get(&format!("a/{}", random.u16(..2000)));
            }
        }
        assert!(cache.usage().bytes > limit * 9 / 10, "{name}: {:?}", cache.usage());
        assert!(cache.usage().evictions > 0, "{name}");
    });
}

#[test]
fn large_documents_fit_into_any_shard_and_evict_no_others() {
    let limit = 1 << 20;
    for_each(bounds(100_000, limit), |cache, name| {
        fill(cache, "small", 2000, 10);
        let small = cache.usage().entries;
        for key in 0..30 {
            let large = entry(&format!("large/{key}"), 45_000);
            assert!(cache.insert(large.clone()), "{name}");
            assert!(cache.peek(large.key()).is_some(), "{name}: the newest is held");
        }
        assert!(cache.usage().bytes <= limit, "{name}");
        assert!(small == 2000, "{name}: {small}");
    });
}

#[test]
fn refuses_an_entry_that_is_too_large() {
    for_each(bounds(100, 16_000), |cache, name| {
        let old = entry("a/1", 10);
        assert!(cache.insert(old.clone()), "{name}");
        assert!(!cache.insert(entry("a/1", 1000)), "{name}");
        assert!(cache.peek("a/1").is_some_and(|held| held.is_same(&old)), "{name}: the old entry stays");
    });
    for_each(bounds(0, 1 << 20), |cache, name| assert!(!cache.insert(entry("a/1", 1)), "{name}"));
    for_each(bounds(10, 0), |cache, name| assert!(!cache.insert(entry("a/1", 1)), "{name}"));
}

#[test]
fn retain_visits_every_entry_once_and_few_under_one_lock() {
    for_each(bounds(100_000, usize::MAX), |cache, name| {
        fill(cache, "a", 20_000, 1);
        let mut seen = 0;
        let mut gone = 0;
        for slice in 0..cache.slices() {
            let before = seen;
            gone += cache.retain(slice, &mut |entry| {
                seen += 1;
                entry.key().ends_with('7')
            });
            assert!(seen - before <= SLICE, "{name}: {} entries under one lock", seen - before);
        }
        assert_eq!((seen, gone), (20_000, 18_000), "{name}");
        assert_eq!(cache.usage().entries, 2000, "{name}");
        assert!(cache.get("a/17").is_some() && cache.get("a/18").is_none(), "{name}");
        assert_eq!(cache.usage().evictions, 0, "{name}: not an eviction");
        assert_eq!(cache.retain(cache.slices(), &mut |_| false), 0, "{name}: no such slice");
    });
}

#[test]
fn a_walk_in_slices_misses_no_entry_however_the_cache_changes_meanwhile() {
    for_each(bounds(30_000, usize::MAX), |cache, name| {
        fill(cache, "old", 20_000, 1);
        let mut random = fastrand::Rng::with_seed(6);
        let (mut seen, mut slice) = (std::collections::HashSet::new(), 0);
        while slice < cache.slices() {
            cache.retain(slice, &mut |entry| {
                seen.insert(entry.key().to_owned());
                true
            });
            slice += 1;
            for _ in 0..200 {
                match random.u8(..4) {
                    0 => drop(cache.remove(&format!("old/{}", random.u16(..20_000)))),
                    1 => drop(cache.get(&format!("old/{}", random.u16(..20_000)))),
                    _ => assert!(cache.insert(entry(&format!("new/{}", random.u16(..40_000)), 1))),
                }
            }
        }
        let missed = |key: &String| cache.peek(key).is_some() && !seen.contains(key);
        assert_eq!((0..20_000).map(|key| format!("old/{key}")).find(missed), None, "{name}");
    });
}

#[test]
fn an_emptied_cache_weighs_nothing() {
    for_each(bounds(500, 1 << 20), |cache, name| {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..5000 {
            let key = format!("a/{}", random.u16(..1000));
            match random.u8(..8) {
                0 => drop(cache.remove(&key)),
                1..4 => drop(cache.get(&key)),
                _ => assert!(cache.insert(entry(&key, random.usize(..2000)))),
            }
        }
        let last = cache.peek("a/1").or_else(|| cache.peek("a/2"));
        let held = cache.usage().entries;
        assert_eq!(clear(cache), held, "{name}");
        let Usage { entries, bytes, .. } = cache.usage();
        assert_eq!((entries, bytes), (0, 0), "{name}");
        assert!(last.is_none_or(|last| last.holders() == 1), "{name}: removed entries are freed");
        assert!(cache.insert(entry("a/1", 1)) && cache.get("a/1").is_some(), "{name}: it can be used again");
    });
}

#[test]
fn a_panic_in_retain_leaves_it_usable() {
    for_each(bounds(100, 1 << 20), |cache, name| {
        fill(cache, "a", 50, 1);
        let mut left = 5;
        let panics = std::panic::AssertUnwindSafe(|| {
            for slice in 0..cache.slices() {
                cache.retain(slice, &mut |_| {
                    left -= 1;
                    assert!(left > 0, "on purpose");
                    false
                });
            }
        });
        assert!(std::panic::catch_unwind(panics).is_err(), "{name}");
        clear(cache);
        let Usage { entries, bytes, .. } = cache.usage();
        assert_eq!((entries, bytes), (0, 0), "{name}");
    });
}

#[test]
fn threads_share_it() {
    let limit = 64 << 10;
    for_each(bounds(200, limit), |cache, name| {
        std::thread::scope(|scope| {
            for seed in 0..4 {
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..3000 {
                        let key = format!("a/{}", random.u16(..400));
                        match random.u8(..16) {
                            0 => drop(cache.remove(&key)),
                            1 => {
                                let slice = random.usize(..cache.slices());
                                cache.retain(slice, &mut |held| size(held) > 200);
                            }
                            2..8 => assert!(cache.get(&key).is_none_or(|entry| entry.key() == key)),
                            _ => assert!(cache.insert(entry(&key, random.usize(..1500)))),
                        }
                    }
                });
            }
        });
        let Usage { entries, bytes, .. } = cache.usage();
        assert!(entries <= 200 && bytes <= limit, "{name}: {entries} entries, {bytes} bytes");
        let held: Vec<_> = (0..400).filter_map(|key| cache.peek(&format!("a/{key}"))).collect();
        assert_eq!(held.len(), entries, "{name}");
        assert_eq!(held.iter().map(|entry| cache.weight(entry)).sum::<usize>(), bytes, "{name}");
        clear(cache);
        assert_eq!((cache.usage().entries, cache.usage().bytes), (0, 0), "{name}");
    });
}
