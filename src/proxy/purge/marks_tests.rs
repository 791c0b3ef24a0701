//! The marks, one step at a time, and under random interleavings of purges, fetches, reads, evictions and walks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::cache::{Entry, Millis, Stamp};
use super::marks::{Kind, MOST, Mark, Marks};
use crate::source::Policy;
use crate::wire::Document;

/// An entry of which the origin was asked at this moment.
fn entry(key: &str, asked: u64) -> Entry {
    let document = Document::parse(b"1", 1).ok();
    Entry::new(key, document, Millis(asked), None, Duration::ZERO)
}

fn stamped(key: &str, marks: &Marks) -> Entry {
    let entry = entry(key, 0);
    entry.restamp(entry.stamp(), marks.newest());
    entry
}

fn found(mark: &Mark) -> u64 {
    mark.found.load(Relaxed)
}

#[test]
fn a_mark_purges_what_is_older_and_begins_with_its_prefix() {
    let mut marks = Marks::default();
    let old = ["a/1", "a/b/1", "a/b/c/1", "ab/1"].map(|key| stamped(key, &marks));
    let mark = marks.add("a/b/", Kind::Hard).unwrap();
    let new = stamped("a/b/2", &marks);
    assert_eq!(old.each_ref().map(|entry| marks.check(entry)), [true, false, false, true]);
    assert!(marks.check(&new) && !marks.check(&old[1]), "a purged entry stays purged");
    assert_eq!((found(&mark), marks.purged().get()), (2, 2), "each is counted once");
    assert_eq!(old[0].stamp(), marks.newest(), "and not looked at again");
}

#[test]
fn a_mark_of_a_tag_purges_the_documents_that_have_it() {
    let mut marks = Marks::default();
    let tagged = |key, tags: &'static str| {
        let policy = Policy { tags: tags.into(), ..Policy::default() };
        Entry::of_policy(key, Document::parse(b"1", 1).ok(), Millis(0), None, Duration::ZERO, Some(&policy))
    };
    let old = [tagged("a/1", "eu de"), tagged("b/1", "eu-de"), entry("a/2", 0), tagged("b/2", "us de")];
    let mark = marks.add("tag:de", Kind::Hard).unwrap();
    assert_eq!(old.each_ref().map(|entry| marks.check(entry)), [false, true, true, false]);
    assert_eq!(found(&mark), 2);
}

#[test]
fn a_soft_mark_makes_stale_and_a_hard_one_purges_all_the_same() {
    let mut marks = Marks::default();
    let [one, two] = ["a/1", "a/2"].map(|key| stamped(key, &marks));
    let soft = marks.add("a/", Kind::Soft).unwrap();
    assert!(marks.check(&one) && one.is_soft_purged());
    let hard = marks.add("a/", Kind::Hard).unwrap();
    assert!(!marks.check(&one) && !marks.check(&two));
    assert_eq!((found(&soft), found(&hard)), (1, 2));
    let three = stamped("a/3", &marks);
    marks.add("b/", Kind::Soft).unwrap();
    three.purge_softly();
    assert!(marks.check(&three) && three.is_soft_purged(), "a check keeps what was found before");
}

#[test]
fn an_entry_counts_for_the_purge_that_came_first() {
    let mut marks = Marks::default();
    let one = stamped("a/b/1", &marks);
    let (first, second) = (marks.add("a/b/", Kind::Hard).unwrap(), marks.add("a/", Kind::Hard).unwrap());
    assert!(!marks.check(&one));
    assert_eq!((found(&first), found(&second)), (1, 0));
}

#[test]
fn marks_are_bounded_by_their_prefixes() {
    let mut marks = Marks::default();
    for i in 0..MOST {
        assert!(marks.add(&format!("r{i}/"), Kind::Hard).is_some());
    }
    let newest = marks.newest();
    assert!(marks.add("one-more/", Kind::Hard).is_none() && marks.newest() == newest);
    for _ in 0..2 * MOST {
        assert!(marks.add("r7/", Kind::Hard).is_some(), "a prefix that is marked already takes no room");
    }
    assert_eq!(marks.len(), MOST);
    marks.forget(newest);
    assert_eq!(marks.len(), 1, "marks from after the beginning of a walk stay");
}

#[test]
fn what_left_the_cache_before_the_end_of_a_walk_is_not_shown_after_it() {
    let mut marks = Marks::default();
    let held_by_a_reader = stamped("a/1", &marks);
    marks.add("a/", Kind::Hard).unwrap();
    marks.forget(marks.newest());
    assert!(marks.is_empty() && !marks.check(&held_by_a_reader));
}

const PREFIXES: [&str; 4] = ["a/", "b/", "a/x/", "a/x/y/"];
const KEYS: [&str; 6] = ["a/1", "a/x/1", "a/x/2", "a/x/y/1", "b/1", "c/1"];
const SLICES: usize = 3;

/// A purge that was answered.
struct Answered {
    at: u64,
    prefix: &'static str,
    soft: bool,
}

/// A request on its way: it looked into the cache at a moment, and may still have to look at the marks.
struct Reader {
    began: u64,
    entry: Entry,
    marks: Option<Arc<Marks>>,
    read: Option<Stamp>,
}

/// A walk on its way: the slice and the key to be checked next.
struct Walk {
    marks: Arc<Marks>,
    slice: usize,
    left: Vec<(&'static str, Option<Stamp>)>,
}

/// A proxy in slow motion. Every step is one that no lock of the proxy could divide.
#[derive(Default)]
struct Model {
    now: u64,
    marks: Arc<Marks>,
    cache: BTreeMap<&'static str, Entry>,
    flights: BTreeMap<&'static str, u64>,
    readers: Vec<Reader>,
    walk: Option<Walk>,
    answered: Vec<Answered>,
    shown: usize,
    refused: usize,
}

fn slice(key: &str) -> usize {
    key.len() % SLICES
}

impl Model {
    fn step(&mut self, random: &mut fastrand::Rng) {
        self.now += 1;
        let key = KEYS[random.usize(..KEYS.len())];
        match random.u8(..20) {
            0 => self.purge(PREFIXES[random.usize(..PREFIXES.len())], random.u8(..3) == 0),
            1 => drop(self.cache.remove(key)),
            2 => {
                self.flights.remove(key);
                if let Some(entry) = self.cache.get(key) {
                    entry.purge_softly();
                    self.answered.push(Answered { at: self.now, prefix: key, soft: true });
                }
            }
            3..6 => drop(self.flights.entry(key).or_insert(self.now)),
            6..9 => self.land(key),
            9..12 => {
                let reader =
                    |entry: &Entry| Reader { began: self.now, entry: entry.clone(), marks: None, read: None };
                self.readers.extend(self.cache.get(key).map(reader));
            }
            12..16 if !self.readers.is_empty() => {
                let reader = self.readers.swap_remove(random.usize(..self.readers.len()));
                self.read_on(reader);
            }
            _ => self.walk_on(),
        }
    }

    /// `Flights::purge` with `Purges::add`.
    fn purge(&mut self, prefix: &'static str, soft: bool) {
        self.flights.retain(|key, _| !key.starts_with(prefix));
        Arc::make_mut(&mut self.marks).add(prefix, if soft { Kind::Soft } else { Kind::Hard }).unwrap();
        self.answered.push(Answered { at: self.now, prefix, soft });
    }

    /// `Ticket::land` with `Proxy::store`.
    fn land(&mut self, key: &'static str) {
        if let Some(asked) = self.flights.remove(key) {
            let entry = entry(key, asked);
            entry.restamp(entry.stamp(), self.marks.newest());
            self.cache.insert(key, entry);
        }
    }

    /// `Purges::shows`: the number, the marks, and the two halves of `Marks::check`.
    fn read_on(&mut self, mut reader: Reader) {
        let shows = match (reader.marks.take(), reader.read) {
            (None, _) if reader.entry.stamp() == self.marks.newest() => true,
            (None, _) => {
                self.readers.push(Reader { marks: Some(self.marks.clone()), ..reader });
                return;
            }
            (Some(marks), None) => {
                let read = Some(reader.entry.stamp());
                self.readers.push(Reader { marks: Some(marks), read, ..reader });
                return;
            }
            (Some(marks), Some(stamp)) => {
                let after = marks.judge(&reader.entry, stamp).0;
                if !reader.entry.restamp(stamp, after) {
                    self.readers.push(Reader { marks: Some(marks), read: None, ..reader });
                    return;
                }
                !after.is_purged()
            }
        };
        self.judge(&reader, shows);
    }

    /// Whether the request is right to show the entry, or not to.
    fn judge(&mut self, reader: &Reader, shows: bool) {
        let Reader { began, entry, .. } = reader;
        let since_its_fetch = |answered: &&Answered| {
            entry.age(Millis(answered.at)) > Duration::ZERO && entry.key().starts_with(answered.prefix)
        };
        let of = |soft: bool, until: u64| {
            let purges = self.answered.iter().filter(since_its_fetch);
            purges.filter(|purge| purge.soft == soft && purge.at <= until).count()
        };
        let key = entry.key();
        if shows {
            self.shown += 1;
            assert_eq!(of(false, *began), 0, "{key} is shown after the answer to its purge");
            // A soft purge of one key finds only the entry that is held.
            let is_held = self.cache.get(key).is_some_and(|held| held.is_same(entry));
            assert!(!is_held || of(true, *began) == 0 || entry.is_soft_purged(), "{key} is shown as fresh");
            return;
        }
        self.refused += 1;
        let is_held = self.cache.get(key).is_some_and(|held| held.is_same(entry));
        assert!(!is_held || of(false, self.now) > 0, "{key} was never purged");
    }

    /// `Proxy::walk`, one half of a check at a time.
    fn walk_on(&mut self) {
        let Some(walk) = &mut self.walk else {
            let marks = self.marks.clone();
            self.walk = (!marks.is_empty()).then_some(Walk { marks, slice: 0, left: Vec::new() });
            return;
        };
        if let Some((key, read)) = walk.left.last_mut() {
            // Whoever evicts or replaces it waits for the lock of the slice, or comes before.
            let Some(entry) = self.cache.get(key) else {
                walk.left.pop();
                return;
            };
            let Some(stamp) = *read else {
                *read = Some(entry.stamp());
                return;
            };
            let after = walk.marks.judge(entry, stamp).0;
            match entry.restamp(stamp, after) {
                true if after.is_purged() => drop(self.cache.remove(*key)),
                true => {}
                false => {
                    *read = None;
                    return;
                }
            }
            walk.left.pop();
            return;
        }
        if walk.slice < SLICES {
            let of_slice = self.cache.keys().filter(|key| slice(key) == walk.slice);
            walk.left = of_slice.map(|key| (*key, None)).collect();
            walk.slice += 1;
            return;
        }
        let newest = walk.marks.newest();
        Arc::make_mut(&mut self.marks).forget(newest);
        self.walk = None;
    }
}

#[test]
fn no_entry_is_shown_after_the_answer_to_its_purge() {
    let (mut shown, mut refused) = (0, 0);
    for seed in 0..400 {
        let (mut random, mut model) = (fastrand::Rng::with_seed(seed), Model::default());
        (0..1500).for_each(|_| model.step(&mut random));
        (shown, refused) = (shown + model.shown, refused + model.refused);
        // A walk that nothing disturbs frees all that was purged.
        model.readers.clear();
        while model.walk.is_some() || !model.marks.is_empty() {
            model.walk_on();
        }
        for (key, entry) in &model.cache {
            let reader = Reader { began: model.now, entry: entry.clone(), marks: None, read: None };
            let shows = model.marks.check(&reader.entry);
            assert!(shows, "{key} was left behind");
        }
    }
    assert!(shown > 5000 && refused > 1000, "{shown} shown, {refused} refused");
}
