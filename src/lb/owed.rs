//! Purges that a node was not there to do: kept until it is, and done before it gets requests again.
//!
//! Bounded. Past the bound, the purges of single keys of a resource become one of all that is beneath it; a node that
//! owes even more is owed nothing further, and whoever purges is told.

use std::collections::BTreeMap;

use crate::wire::{Pattern, Request};

/// So many purges are kept for a node.
const MOST: usize = 1024;

/// A purge: its pattern as it is written, and whether it is a soft one.
pub(super) type Purge = (String, bool);

/// Purges, each with the number of the wish that it is for: one that is wished again while it is done is done again.
#[derive(Clone, Default, Debug)]
pub(super) struct Owed {
    purges: BTreeMap<Purge, u64>,
    wishes: u64,
}

impl Owed {
    pub(super) fn len(&self) -> usize {
        self.purges.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.purges.is_empty()
    }

    /// One more. False when there is no room, even when those of one resource are put together.
    pub(super) fn add(&mut self, pattern: Pattern<'_>, soft: bool) -> bool {
        self.wishes += 1;
        let purge = (pattern.to_string(), soft);
        if self.purges.len() < MOST || self.purges.contains_key(&purge) {
            self.purges.insert(purge, self.wishes);
            return true;
        }
        // A soft purge may become a hard one: that costs fetches, never a wrong document.
        let wishes = self.wishes;
        self.purges = self.purges.keys().map(|purge| (whole(purge), wishes)).collect();
        if self.purges.len() < MOST {
            self.purges.insert(purge, wishes);
            return true;
        }
        self.purges.contains_key(&whole(&purge))
    }

    /// One of them, to be done, and the number of its wish.
    pub(super) fn first(&self) -> Option<(Purge, u64)> {
        self.purges.iter().next().map(|(purge, wish)| (purge.clone(), *wish))
    }

    /// It is done, unless it was wished again meanwhile.
    pub(super) fn done(&mut self, purge: &Purge, wish: u64) {
        if self.purges.get(purge) == Some(&wish) {
            self.purges.remove(purge);
        }
    }
}

/// The purge of all that is beneath the resource of this one.
fn whole(purge: &Purge) -> Purge {
    let resource = purge.0.split('/').next().unwrap_or_default();
    (format!("{resource}/*"), false)
}

/// The request of an owed purge.
pub(super) fn request(purge: &Purge) -> Option<Request<'_>> {
    let pattern = Pattern::parse(purge.0.as_bytes()).ok()?;
    Some(Request::Purge { pattern, soft: purge.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(owed: &mut Owed, text: &str) -> bool {
        owed.add(Pattern::parse(text.as_bytes()).unwrap(), false)
    }

    #[test]
    fn each_is_kept_once_until_it_is_done() {
        let mut owed = Owed::default();
        assert!(add(&mut owed, "a/1") && add(&mut owed, "a/1") && add(&mut owed, "b/*"));
        assert_eq!(owed.len(), 2);
        let (first, wish) = owed.first().unwrap();
        assert!(matches!(request(&first), Some(Request::Purge { pattern: Pattern::One(_), soft: false })));
        add(&mut owed, "a/1");
        owed.done(&first, wish);
        assert_eq!(owed.len(), 2, "it was wished again while it was done");
        let (first, wish) = owed.first().unwrap();
        owed.done(&first, wish);
        let (second, wish) = owed.first().unwrap();
        assert!(matches!(request(&second), Some(Request::Purge { pattern: Pattern::Beneath("b/"), .. })));
        owed.done(&second, wish);
        assert!(owed.is_empty());
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
