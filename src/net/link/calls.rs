//! The requests of a session that are not answered yet, by their ids.
//!
//! An id is the number of a place and how often the place was used before, so a reply that comes late, for a call that
//! was given up, can never meet the call that took its place.

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::LinkError;

/// Who waits for a reply.
pub(super) struct Call {
    /// Where the reply goes; `None` once the caller has been told that it is late.
    pub(super) reply: Option<oneshot::Sender<Result<Bytes, LinkError>>>,
    /// When the caller gives up.
    pub(super) deadline: Instant,
    /// What the session had received when the request was handed to it.
    pub(super) received_before: u64,
}

impl Call {
    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_none_or(|reply| reply.is_closed())
    }

    /// Hands the result to the caller, if it still waits.
    pub(super) fn finish(&mut self, result: Result<Bytes, LinkError>) {
        if let Some(reply) = self.reply.take() {
            // A caller that was dropped wants nothing.
            let _ = reply.send(result);
        }
    }
}

const PLACE_BITS: u32 = 20;
/// So many calls in flight have ids of their own.
pub(super) const MOST: usize = 1 << PLACE_BITS;

struct Place {
    id: u64,
    call: Option<Call>,
}

/// Calls in flight.
#[derive(Default)]
pub(super) struct Calls {
    places: Vec<Place>,
    free: Vec<usize>,
}

impl Calls {
    /// How many are in flight.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Gives a call its id.
    pub(super) fn insert(&mut self, call: Call) -> u64 {
        if let Some(at) = self.free.pop() {
            let place = &mut self.places[at];
            place.id += 1 << PLACE_BITS;
            place.call = Some(call);
            return place.id;
        }
        let id = self.places.len() as u64;
        debug_assert!(self.places.len() < MOST, "more calls in flight than an id can name");
        self.places.push(Place { id, call: Some(call) });
        id
    }

    /// Takes the call of an id out; `None` when there is no such id in flight.
    pub(super) fn take(&mut self, id: u64) -> Option<Call> {
        let at = (id & ((1 << PLACE_BITS) - 1)) as usize;
        let place = self.places.get_mut(at).filter(|place| place.id == id)?;
        let call = place.call.take()?;
        self.free.push(at);
        Some(call)
    }

    /// All calls in flight.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.places.iter_mut().filter_map(|place| place.call.as_mut())
    }

    /// Takes all of them out: the session is over.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Call> {
        self.free.clear();
        std::mem::take(&mut self.places).into_iter().filter_map(|place| place.call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call { reply: None, deadline: Instant::now(), received_before: 0 }
    }

    #[test]
    fn an_id_never_meets_another_call() {
        let mut calls = Calls::default();
        let (a, b) = (calls.insert(call()), calls.insert(call()));
        assert!(calls.take(a).is_some());
        let c = calls.insert(call());
        assert!(c != a && c != b);
        assert!(calls.take(a).is_none(), "the place was taken anew");
        assert!(calls.take(c).is_some() && calls.take(b).is_some());
        assert!(calls.take(b).is_none() && calls.take(77).is_none() && calls.take(u64::MAX).is_none());
        assert_eq!(calls.len(), 0);
    }
}
