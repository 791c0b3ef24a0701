//! How much is under way at a node in all, and what part of it each connection may have.
//!
//! A node that passes requests on gains nothing from more of them than keep its peers busy: each further one only takes
//! memory and the core's cache from the others. From there on a session with more than its share is not read until some
//! of what it asked is answered; the rest waits where it costs nothing, with who asks.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is under way at all connections of a server.
pub(super) struct Crowd {
    /// So many requests are enough.
    enough: usize,
    requests: AtomicUsize,
    /// Connections that have some.
    busy: AtomicUsize,
}

/// What is under way at one connection; nothing more once it is dropped.
pub(super) struct Share<'a> {
    crowd: &'a Crowd,
    /// As it was told last: once for each look, not once for each request.
    told: usize,
}

impl Crowd {
    /// Where `enough` requests at once are enough.
    pub(super) fn new(enough: usize) -> Self {
        Self { enough, requests: AtomicUsize::new(0), busy: AtomicUsize::new(0) }
    }

    /// The share of a connection that has nothing under way yet.
    pub(super) fn share(&self) -> Share<'_> {
        Share { crowd: self, told: 0 }
    }
}

impl Share<'_> {
    /// Tells how many are under way here now, and is told how many may be: what the others leave, and at least as much as
    /// each would have if all had the same. Looks of others at the same moment may make it a few more.
    pub(super) fn is_now(&mut self, here: usize) -> usize {
        let crowd = self.crowd;
        if crowd.enough == usize::MAX {
            return usize::MAX;
        }
        self.tell(here);
        let others = crowd.requests.load(Ordering::Relaxed).saturating_sub(here);
        let equal = crowd.enough / crowd.busy.load(Ordering::Relaxed).max(1);
        crowd.enough.saturating_sub(others).max(equal)
    }

    fn tell(&mut self, here: usize) {
        // Sums of what each has told: no order between them matters, and a sum that is a moment old is near enough.
        let Crowd { requests, busy, .. } = self.crowd;
        if here != self.told {
            requests.fetch_add(here.wrapping_sub(self.told), Ordering::Relaxed);
        }
        if (here > 0) != (self.told > 0) {
            busy.fetch_add(if here > 0 { 1 } else { 1_usize.wrapping_neg() }, Ordering::Relaxed);
        }
        self.told = here;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.tell(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_may_have_all_until_others_come() {
        let crowd = Crowd::new(100);
        let (mut first, mut second) = (crowd.share(), crowd.share());
        assert_eq!(first.is_now(0), 100);
        assert_eq!(first.is_now(100), 100, "nobody else is there");
        assert_eq!(second.is_now(0), 100, "nothing is left, but as one of one it may have all");
        assert_eq!(second.is_now(1), 50, "as one of two it may have half");
        assert_eq!(first.is_now(100), 99, "what it has too much is not asked again");
        assert_eq!(first.is_now(50), 99);
        drop(first);
        assert_eq!(second.is_now(1), 100);
        drop(second);
        assert_eq!((crowd.requests.into_inner(), crowd.busy.into_inner()), (0, 0));
    }

    #[test]
    fn of_too_many_the_last_get_nothing_and_their_callers_let_one_through() {
        let crowd = Crowd::new(2);
        let mut shares: Vec<Share<'_>> = (0..5).map(|_| crowd.share()).collect();
        let told: Vec<usize> = shares.iter_mut().map(|share| share.is_now(1)).collect();
        assert_eq!(told, [2, 1, 0, 0, 0]);
        assert_eq!(shares[0].is_now(1), 0, "nor do the first any more");
    }
}
