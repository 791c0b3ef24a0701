//! S3-FIFO: what each queue does, and the whole against a slow model.

use super::super::contract::entry;
use super::*;

const CAPACITY: usize = 20;

/// Asks for a key, and takes it in on a miss; tells whether it was a hit.
fn ask(cache: &mut S3Fifo, key: u64) -> bool {
    let name = key.to_string();
    if cache.get(key, &name).is_some() {
        return true;
    }
    if cache.len() == CAPACITY {
        cache.evict(Limit::Entries).expect("full");
    }
    cache.insert(key, entry(&name, 1));
    false
}

/// The same in the plainest words: oldest first, `(key, uses)`.
#[derive(Default)]
struct Model {
    small: Vec<(u64, u8)>,
    main: Vec<(u64, u8)>,
    ghost: Vec<u64>,
}

impl Model {
    fn ask(&mut self, key: u64) -> bool {
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
    let (mut cache, mut model) = (S3Fifo::new(), Model::default());
    for step in 0..50_000 {
        let key = (60.0 * random.f64().powi(3)) as u64;
        assert_eq!(ask(&mut cache, key), model.ask(key), "step {step}");
        assert_eq!(cache.ghost.len(), model.ghost.len(), "step {step}");
    }
}

#[test]
fn a_scan_passes_through_the_small_queue() {
    let mut cache = S3Fifo::new();
    for key in (0..16).cycle().take(64).chain(100..1000) {
        ask(&mut cache, key);
    }
    assert!((0..16).all(|key| cache.peek(key, &key.to_string()).is_some()));
    assert!(cache.ghost.len() <= CAPACITY);
}

#[test]
fn what_comes_back_soon_enters_the_main_queue() {
    let mut cache = S3Fifo::new();
    for key in 0..30 {
        ask(&mut cache, key);
    }
    let lost =
        (0..30).rev().find(|key| cache.peek(*key, &key.to_string()).is_none()).expect("ten were given up");
    assert!(!ask(&mut cache, lost));
    let at = cache.place(lost as u32, &lost.to_string()).expect("held");
    assert!(cache.slab.get(at).is_some_and(|resident| resident.in_main));
}

#[test]
fn keys_of_the_same_hash_live_side_by_side() {
    let mut cache = S3Fifo::new();
    cache.insert(7, entry("a", 1));
    cache.insert(7, entry("b", 2));
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.remove(7, "a").expect("held").key(), "a");
    assert_eq!(cache.get(7, "b").expect("held").key(), "b");
}

#[test]
fn large_new_documents_do_not_push_out_small_used_ones() {
    let mut cache = S3Fifo::new();
    let held = |cache: &S3Fifo| cache.small.bytes + cache.main.bytes;
    let put = |cache: &mut S3Fifo, key: u64, size: usize| {
        cache.insert(key, entry(&key.to_string(), size));
        while held(cache) > 100_000 {
            cache.evict(Limit::Bytes).expect("not empty");
        }
    };
    (0..200).for_each(|key| put(&mut cache, key, 100));
    for key in (0..200).cycle().take(600) {
        cache.get(key, &key.to_string());
    }
    (1000..1500).for_each(|key| put(&mut cache, key, 5000));
    let stayed = (0..200_u64).filter(|key| cache.peek(*key, &key.to_string()).is_some()).count();
    assert!(stayed > 150, "{stayed}");
    assert!(cache.peek(1499, "1499").is_some(), "the newest is held");
}
