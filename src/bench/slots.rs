//! The requests in flight on one session, by their ids.
//!
//! An id is the number of a place and how often the place was used before: a reply that comes twice, or late, never
//! meets the request that took the place.

use tokio::time::Instant;

enum Slot {
    Free,
    /// In flight, and since when it is due.
    Asked(Instant),
    /// Too late, and counted; its reply may still come.
    GivenUp,
}

pub(super) struct Slots {
    slots: Vec<(u64, Slot)>,
    free: Vec<usize>,
    /// Ids of one place are this many bits apart.
    bits: u32,
    given_up: usize,
}

impl Slots {
    /// Room for `most` requests.
    pub(super) fn new(most: usize) -> Self {
        let slots = (0..most).map(|at| (at as u64, Slot::Free)).collect();
        let bits = most.next_power_of_two().trailing_zeros();
        Self { slots, free: (0..most).rev().collect(), bits, given_up: 0 }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() + self.given_up == self.slots.len()
    }

    /// Whether every place is held by a request that was given up: nothing more will come of this session.
    pub(super) fn is_stuck(&self) -> bool {
        self.given_up == self.slots.len()
    }

    /// Takes a place; gives the id. Must have room.
    pub(super) fn insert(&mut self, due: Instant) -> u64 {
        let Some(at) = self.free.pop() else { return u64::MAX };
        let (id, slot) = &mut self.slots[at];
        *id = id.wrapping_add(1 << self.bits);
        *slot = Slot::Asked(due);
        *id
    }

    /// Frees the place of an id: since when the request was due, `None` if it was given up. No outer value when there is
    /// no such id in flight.
    pub(super) fn take(&mut self, id: u64) -> Option<Option<Instant>> {
        let at = (id & ((1 << self.bits) - 1)) as usize;
        let (_, slot) = self.slots.get_mut(at).filter(|(own, _)| *own == id)?;
        let due = match std::mem::replace(slot, Slot::Free) {
            Slot::Free => return None,
            Slot::Asked(due) => Some(due),
            Slot::GivenUp => {
                self.given_up -= 1;
                None
            }
        };
        self.free.push(at);
        Some(due)
    }

    /// Gives up those of which `is_late` says so.
    pub(super) fn give_up(&mut self, mut is_late: impl FnMut(Instant) -> bool) {
        for (_, slot) in &mut self.slots {
            if let Slot::Asked(due) = *slot
                && is_late(due)
            {
                *slot = Slot::GivenUp;
                self.given_up += 1;
            }
        }
    }

    /// Since when the first of those in flight is due.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.dues().min()
    }

    /// Takes all that are waited for out: the session is over.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Instant> {
        let dues: Vec<Instant> = self.dues().collect();
        self.slots.clear();
        self.free.clear();
        dues.into_iter()
    }

    fn dues(&self) -> impl Iterator<Item = Instant> {
        self.slots.iter().filter_map(|(_, slot)| match slot {
            Slot::Asked(due) => Some(*due),
            Slot::Free | Slot::GivenUp => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_answered_once() {
        let now = Instant::now();
        let mut slots = Slots::new(3);
        let ids: Vec<u64> = (0..3).map(|_| slots.insert(now)).collect();
        assert!(!slots.has_room() && !slots.is_empty());
        assert_eq!(slots.take(ids[1]), Some(Some(now)));
        assert_eq!(slots.take(ids[1]), None);
        let again = slots.insert(now);
        assert!(!ids.contains(&again) && slots.take(ids[1]).is_none());
        assert!(slots.take(3).is_none() && slots.take(u64::MAX).is_none());
        assert_eq!(slots.drain().count(), 3);
    }

    #[test]
    fn a_place_that_was_given_up_is_free_after_its_reply() {
        let now = Instant::now();
        let mut slots = Slots::new(1);
        let id = slots.insert(now);
        slots.give_up(|due| due == now);
        assert!(slots.is_stuck() && slots.is_empty() && !slots.has_room() && slots.first_due().is_none());
        assert_eq!(slots.take(id), Some(None));
        assert!(slots.has_room() && !slots.is_stuck());
    }
}
