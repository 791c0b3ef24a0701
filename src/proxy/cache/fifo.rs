//! First in, first out: the order of `--cache-type ttl`. A replaced entry counts as new.

use super::Entry;
use super::chain::{Chain, Slab};
use super::ordered::Order;
use super::usage::Limit;

/// Entries in the order of their insertion.
#[derive(Debug)]
pub(super) struct Fifo {
    slab: Slab<Entry>,
    chain: Chain,
}

impl Fifo {
    pub(super) const fn new() -> Self {
        Self { slab: Slab::new(), chain: Chain::new() }
    }
}

impl Order for Fifo {
    const PLACE: usize = 48;

    fn len(&self) -> usize {
        self.chain.len()
    }

    fn extent(&self) -> u32 {
        self.slab.extent()
    }

    fn get(&self, place: u32) -> Option<&Entry> {
        self.slab.get(place)
    }

    fn push(&mut self, entry: Entry) {
        let place = self.chain.push(&mut self.slab, entry.clone());
        entry.marks().set_place(place);
    }

    fn replace(&mut self, place: u32, entry: Entry) -> Entry {
        let old = self.remove(place);
        self.push(entry);
        old
    }

    fn remove(&mut self, place: u32) -> Entry {
        self.chain.remove(&mut self.slab, place)
    }

    fn evict(&mut self, _: Limit) -> Option<Entry> {
        self.chain.pop(&mut self.slab)
    }

    fn clear(&mut self) {
        *self = Self::new();
    }

    fn mark_used(_: &Entry) {}
}
