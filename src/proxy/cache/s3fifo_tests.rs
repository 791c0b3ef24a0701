//! S3-FIFO: what each queue does, and the whole against a slow model.

use foldhash::SharedSeed;

use super::super::contract::entry;
use super::super::ordered::Ordered;
use super::super::{Bounds, Cache};
use super::*;

const CAPACITY: usize = 20;

fn cache(bounds: Bounds) -> Ordered<S3Fifo> {
    let hasher = SeedableRandomState::with_seed(5, SharedSeed::global_fixed());
    Ordered::new(S3Fifo::new(hasher.clone()), bounds, 1, hasher)
}

fn small_cache() -> Ordered<S3Fifo> {
    cache(Bounds { entries: CAPACITY, bytes: usize::MAX })
}

/// Gets a key, and inserts it after a miss; returns whether it was a hit.
fn request(cache: &Ordered<S3Fifo>, key: u64) -> bool {
    let key = key.to_string();
    let hit = cache.get(&key).is_some();
    if !hit {
        cache.insert(entry(&key, 1));
    }
    hit
}

fn is_held(cache: &Ordered<S3Fifo>, key: u64) -> bool {
    cache.peek(&key.to_string()).is_some()
}

/// S3-FIFO without an index: oldest first, `(key, uses)`.
#[derive(Default)]
struct Model {
    small: Vec<(u64, u8)>,
    main: Vec<(u64, u8)>,
    ghost: Vec<u64>,
}

impl Model {
    fn request(&mut self, key: u64) -> bool {
        if let Some((_, uses)) = self.small.iter_mut().chain(&mut self.main).find(|(held, _)| *held == key) {
            *uses = 3.min(*uses + 1);
            return true;
        }
        if self.small.len() + self.main.len() == CAPACITY {
            self.evict();
        }
        let came_back = self.ghost.contains(&key);
        self.ghost.retain(|ghost| *ghost != key);
        match came_back {
            true => self.main.push((key, 0)),
            false => self.small.push((key, 0)),
        }
        false
    }

    fn evict(&mut self) {
        if self.main.len() <= CAPACITY - CAPACITY / 10 {
            while !self.small.is_empty() {
                let (key, uses) = self.small.remove(0);
                if uses < 2 {
                    self.ghost.push(key);
                    if self.ghost.len() > CAPACITY * 9 / 10 {
                        self.ghost.remove(0);
                    }
                    return;
                }
                self.main.push((key, 0));
            }
        }
        loop {
            match self.main.remove(0) {
                (_, 0) => return,
                (key, uses) => self.main.push((key, uses - 1)),
            }
        }
    }
}

#[test]
fn agrees_with_the_model() {
    let mut random = fastrand::Rng::with_seed(5);
    let (cache, mut model) = (small_cache(), Model::default());
    for step in 0..50_000 {
        let key = (60.0 * random.f64().powi(3)) as u64;
        assert_eq!(request(&cache, key), model.request(key), "step {step}");
        assert_eq!(cache.order().ghost.len(), model.ghost.len(), "step {step}");
    }
}

#[test]
fn a_scan_passes_through_the_small_queue() {
    let cache = small_cache();
    for key in (0..16).cycle().take(64).chain(100..1000) {
        request(&cache, key);
    }
    assert!((0..16).all(|key| is_held(&cache, key)));
    assert!(cache.order().ghost.len() <= CAPACITY);
}

#[test]
fn a_key_that_comes_back_soon_enters_the_main_queue() {
    let cache = small_cache();
    for key in 0..30 {
        request(&cache, key);
    }
    let evicted = (0..30).rev().find(|key| !is_held(&cache, *key)).expect("ten were evicted");
    assert!(!request(&cache, evicted));
    assert!(cache.peek(&evicted.to_string()).expect("held").marks().is_main());
}

#[test]
fn a_replaced_entry_keeps_its_queue_and_its_uses() {
    let cache = small_cache();
    request(&cache, 1);
    cache.insert(entry("1", 2));
    cache.insert(entry("1", 3));
    assert_eq!(cache.peek("1").expect("held").marks().uses(), 2);
    for key in 2..60 {
        request(&cache, key);
    }
    cache.insert(entry("1", 4));
    assert!(cache.peek("1").expect("held").marks().is_main());
    assert_eq!(cache.usage().entries, CAPACITY);
}

#[test]
fn one_eviction_passes_over_a_bounded_number_of_used_entries() {
    const ENTRIES: u64 = 3 * MAX_PASSED_OVER as u64;
    let cache = cache(Bounds { entries: ENTRIES as usize, bytes: usize::MAX });
    // Each is requested often enough to stay, from either queue.
    for key in (0..ENTRIES).cycle().take(5 * ENTRIES as usize) {
        request(&cache, key);
    }
    request(&cache, ENTRIES);
    assert!(is_held(&cache, ENTRIES) && !is_held(&cache, MAX_PASSED_OVER as u64));
    assert_eq!((0..ENTRIES).filter(|key| is_held(&cache, *key)).count() as u64, ENTRIES - 1);
}

#[test]
fn large_new_documents_do_not_evict_small_used_ones() {
    let cache = cache(Bounds { entries: usize::MAX, bytes: 100_000 });
    let insert = |key: u64, size| assert!(cache.insert(entry(&key.to_string(), size)));
    (0..200).for_each(|key| insert(key, 100));
    for key in (0..200_u64).cycle().take(600) {
        cache.get(&key.to_string());
    }
    (1000..1500).for_each(|key| insert(key, 5000));
    let stayed = (0..200).filter(|key| is_held(&cache, *key)).count();
    assert!(stayed > 150, "{stayed}");
    assert!(is_held(&cache, 1499), "the newest is held");
}
