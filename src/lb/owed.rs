//! Purges that a node could not do while it was down: kept until it is back, and done before it gets requests again:
//! `purge` sends them, `Node::is_open` keeps requests away meanwhile.
//!
//! Bounded. Past the bound, the purges of single keys become one purge of their whole resource. When that is not enough,
//! further purges are refused, and the client reads so.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::{Pattern, Request};

/// The limit of purges for a node.
const MOST: usize = 1024;
/// The longest that an attempt to do what is owed may take, unless `--purge-deadline` is longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A purge: its pattern as text, and whether it is a soft one.
pub(super) type Purge = (String, bool);

/// Purges, each with the number of its last request: one that is requested again while the node does it is done again.
#[derive(Clone, Default, Debug)]
pub(super) struct Owed {
    purges: BTreeMap<Purge, u64>,
    requests: u64,
    /// Attempts in a row that did not do all.
    in_vain: u32,
}

impl Owed {
    pub(super) fn len(&self) -> usize {
        self.purges.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.purges.is_empty()
    }

    /// All purges, in order.
    pub(super) fn purges(&self) -> impl Iterator<Item = &Purge> {
        self.purges.keys()
    }

    /// Adds a purge. False when there is no room, even with those of one resource put together.
    pub(super) fn add(&mut self, pattern: Pattern<'_>, soft: bool) -> bool {
        self.insert((pattern.to_string(), soft))
    }

    /// Adds the purges of another, as far as there is room.
    pub(super) fn add_all(&mut self, other: &Self) {
        for purge in other.purges() {
            self.insert(purge.clone());
        }
    }

    fn insert(&mut self, purge: Purge) -> bool {
        self.requests += 1;
        if self.purges.len() < MOST || self.purges.contains_key(&purge) {
            self.purges.insert(purge, self.requests);
            return true;
        }
        // A soft purge may become a hard one: that costs fetches, never a wrong document.
        let requests = self.requests;
        self.purges = self.purges.keys().map(|purge| (whole(purge), requests)).collect();
        if self.purges.len() < MOST {
            self.purges.insert(purge, requests);
            return true;
        }
        self.purges.contains_key(&whole(&purge))
    }

    /// At most so many purges to be done, with their numbers.
    pub(super) fn some(&self, most: usize) -> Vec<(Purge, u64)> {
        self.purges.iter().take(most).map(|(purge, number)| (purge.clone(), *number)).collect()
    }

    /// Removes a purge that was done, unless it was requested again meanwhile.
    pub(super) fn done(&mut self, purge: &Purge, number: u64) {
        if self.purges.get(purge) == Some(&number) {
            self.purges.remove(purge);
        }
        if self.is_empty() {
            self.in_vain = 0;
        }
    }

    /// An attempt has ended, and some is left.
    pub(super) fn was_in_vain(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1);
    }

    /// The time for the next attempt: twice that of the one before, from the deadline of a purge on. A node that takes longer
    /// than that for what it owes would never be done with it.
    pub(super) fn patience(&self, deadline: Duration) -> Duration {
        let doubled = deadline.saturating_mul(1 << self.in_vain.min(16));
        doubled.min(PATIENCE.max(deadline))
    }
}

/// The purge of the whole resource of this one. A tag is of none.
fn whole(purge: &Purge) -> Purge {
    if purge.0.starts_with("tag:") {
        return purge.clone();
    }
    let resource = purge.0.split('/').next().unwrap_or_default();
    (format!("{resource}/*"), false)
}

/// The request of an owed purge.
pub(super) fn request(purge: &Purge) -> Option<Request<'_>> {
    let pattern = Pattern::parse(&purge.0).ok()?;
    Some(Request::Purge { pattern, soft: purge.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(owed: &mut Owed, text: &str) -> bool {
        owed.add(Pattern::parse(text).unwrap(), false)
    }

    #[test]
    fn each_is_kept_once_until_it_is_done() {
        let mut owed = Owed::default();
        assert!(add(&mut owed, "a/1") && add(&mut owed, "a/1") && add(&mut owed, "b/*"));
        assert_eq!(owed.len(), 2);
        let (first, number) = owed.some(1).pop().unwrap();
        assert!(matches!(request(&first), Some(Request::Purge { pattern: Pattern::One(_), soft: false })));
        add(&mut owed, "a/1");
        owed.done(&first, number);
        assert_eq!(owed.len(), 2, "it was requested again while it was done");
        let (first, number) = owed.some(1).pop().unwrap();
        owed.done(&first, number);
        let (second, number) = owed.some(1).pop().unwrap();
        assert!(matches!(request(&second), Some(Request::Purge { pattern: Pattern::Beneath("b/"), .. })));
        owed.done(&second, number);
        assert!(owed.is_empty());
    }

    #[test]
    fn an_attempt_may_take_twice_as_long_as_the_one_in_vain_before_it() {
        let (mut owed, second) = (Owed::default(), Duration::from_secs(1));
        add(&mut owed, "a/1");
        let mut patience = Vec::new();
        for _ in 0..8 {
            patience.push(owed.patience(second).as_secs());
            owed.was_in_vain();
        }
        assert_eq!(patience, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(owed.patience(2 * PATIENCE), 2 * PATIENCE);
        let (purge, number) = owed.some(1).pop().unwrap();
        owed.done(&purge, number);
        assert_eq!(owed.patience(second), second);
    }

    #[test]
    fn too_many_become_whole_resources_and_then_no_more() {
        let mut owed = Owed::default();
        for i in 0..MOST * 3 {
            assert!(add(&mut owed, &format!("a/{i}")));
            assert!(owed.len() <= MOST);
        }
        assert!(owed.purges.contains_key(&("a/*".to_owned(), false)));
        let mut owed = Owed::default();
        let room = (0..MOST * 2).filter(|i| add(&mut owed, &format!("r{i}/1"))).count();
        assert_eq!((room, owed.len()), (MOST, MOST));
        assert!(add(&mut owed, "r1/2"), "what is put together already has room");
    }
}
