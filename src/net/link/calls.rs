//! The requests in flight on one session, by id; of each the session keeps a `T`.
//!
//! An id is the index of a slot and, in the bits above it, how often that slot was used before. So a reply that comes
//! twice, or after its request was given up, never matches the request that uses the slot now.

use super::LinkLimits;

/// The most requests in flight that a session can be made for.
const MAX_LIMIT: usize = LinkLimits::MOST_IN_FLIGHT;

/// At most `limit` requests in flight.
pub(crate) struct Calls<T> {
    slots: Vec<Slot<T>>,
    /// Indices of unused slots.
    unused: Vec<usize>,
    limit: usize,
    index_bits: u32,
    /// How often each slot counts as used before its first use.
    first: u64,
    given_up: usize,
}

struct Slot<T> {
    id: u64,
    is_used: bool,
    /// `None` in a used slot: the request was given up.
    call: Option<T>,
}

/// What [`Calls::remove`] finds under an id.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Removed<T> {
    /// A request that waited for its reply.
    Waiting(T),
    /// A request that was given up: its reply comes too late.
    GivenUp,
    /// No request in flight has this id.
    Unknown,
}

impl<T> Calls<T> {
    /// A `limit` outside of 1 to 2^20 is taken as the nearer of the two.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, MAX_LIMIT);
        let index_bits = limit.next_power_of_two().trailing_zeros();
        Self { slots: Vec::new(), unused: Vec::new(), limit, index_bits, first: 0, given_up: 0 }
    }

    /// The same, with ids from somewhere on: the reply to a request of another session is hardly one of this session's.
    pub(crate) fn from_anywhere(limit: usize) -> Self {
        Self { first: fastrand::u32(..).into(), ..Self::new(limit) }
    }

    /// The most requests in flight.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Requests in flight, those included that were given up: the peer may still work on them.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.unused.len()
    }

    /// Requests that were given up and whose replies have not come.
    pub(crate) fn given_up(&self) -> usize {
        self.given_up
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Adds a request and returns its id. Only while [`Calls::is_full`] is false.
    pub(crate) fn insert(&mut self, call: T) -> u64 {
        debug_assert!(!self.is_full(), "more requests in flight than the limit");
        let call = Some(call);
        if let Some(index) = self.unused.pop() {
            let id = self.slots[index].id + (1 << self.index_bits);
            self.slots[index] = Slot { id, is_used: true, call };
            return id;
        }
        let id = self.slots.len() as u64 + (self.first << self.index_bits);
        self.slots.push(Slot { id, is_used: true, call });
        id
    }

    /// Removes the request that a reply with this id answers.
    pub(crate) fn remove(&mut self, id: u64) -> Removed<T> {
        let index = (id & ((1 << self.index_bits) - 1)) as usize;
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.is_used && slot.id == id) else {
            return Removed::Unknown;
        };
        slot.is_used = false;
        self.unused.push(index);
        match slot.call.take() {
            Some(call) => Removed::Waiting(call),
            None => {
                self.given_up -= 1;
                Removed::GivenUp
            }
        }
    }

    /// Gives up the waiting requests for which `is_late` returns true, and returns them one by one. Their ids stay in use
    /// until their replies come.
    pub(crate) fn give_up(&mut self, is_late: impl Fn(&T) -> bool) -> impl Iterator<Item = T> {
        let late = self.slots.iter_mut().filter_map(move |slot| slot.call.take_if(|call| is_late(call)));
        late.inspect(|_| self.given_up += 1)
    }

    /// The requests that wait for their replies.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.call.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_answered_once_and_never_used_again() {
        let mut calls = Calls::new(3);
        let ids: Vec<u64> = (0..3).map(|call| calls.insert(call)).collect();
        assert!(calls.is_full());
        assert_eq!(calls.remove(ids[1]), Removed::Waiting(1));
        assert_eq!(calls.remove(ids[1]), Removed::Unknown);
        let reused = calls.insert(4);
        assert!(!ids.contains(&reused));
        assert_eq!(calls.remove(ids[1]), Removed::Unknown, "its slot has a new id");
        for unknown in [3, 77, u64::MAX] {
            assert_eq!(calls.remove(unknown), Removed::Unknown);
        }
        assert_eq!(calls.waiting().copied().collect::<Vec<_>>(), [0, 4, 2]);
    }

    #[test]
    fn ids_of_a_session_begin_anywhere() {
        let first: Vec<u64> = (0..4).map(|call| Calls::from_anywhere(3).insert(call)).collect();
        assert!(first.iter().any(|id| *id != first[0]), "{first:?}");
    }

    #[test]
    fn a_request_that_was_given_up_is_in_flight_until_its_reply_comes() {
        let mut calls = Calls::new(2);
        let (late, _) = (calls.insert(1), calls.insert(2));
        assert_eq!(calls.give_up(|&call| call == 1).collect::<Vec<_>>(), [1]);
        assert_eq!((calls.len(), calls.given_up(), calls.waiting().count()), (2, 1, 1));
        assert!(calls.is_full() && calls.give_up(|&call| call == 1).next().is_none());
        assert_eq!(calls.remove(late), Removed::GivenUp);
        assert_eq!((calls.len(), calls.given_up()), (1, 0));
    }
}
