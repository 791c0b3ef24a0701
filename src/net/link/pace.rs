//! How many connections are opened at once to a peer without sessions: few at first, more while they succeed.
//!
//! The queue of a listener may be short (Python's socketserver: 5), and what it has no room for is dropped in silence. So
//! connections that the peer may not have accepted yet are limited, as TCP limits what is unacknowledged (RFC 5681): one
//! more with each that succeeds; half as many when one was lost, and from then on one more for each round.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::lock::lock;

/// The limit at first, and after losses the lowest.
const FEW: usize = 4;
/// A connection without a reply is taken to be accepted after this time: peers accept in microseconds, and a slow reply must
/// not slow down other requests.
pub(super) const SETTLES_WITHIN: Duration = Duration::from_millis(20);

/// The limit. Pure: what becomes free is returned.
struct Limit {
    now: usize,
    most: usize,
    /// From here on it grows by one for each round.
    slow_from: usize,
    grown: usize,
    /// Connections under way beyond the limit, since it was halved.
    beyond: usize,
    /// How often it was halved.
    halved: u32,
}

impl Limit {
    fn new(most: usize) -> Self {
        let now = FEW.min(most);
        Self { now, most, slow_from: most, grown: 0, beyond: 0, halved: 0 }
    }

    /// A connection has ended; the number of places that become free.
    fn succeeded(&mut self) -> usize {
        self.grown += 1;
        let is_due = self.now < self.slow_from || self.grown >= self.now;
        let grows = is_due && self.now < self.most;
        if grows {
            (self.now, self.grown) = (self.now + 1, 0);
        }
        self.free(1 + usize::from(grows))
    }

    /// A connection was lost that began after the limit had been halved so often. Those that were under way together count
    /// as one loss.
    fn lost(&mut self, halved_before: u32) -> usize {
        if self.halved == halved_before {
            let half = (self.now / 2).max(FEW.min(self.now));
            self.beyond += self.now - half;
            (self.now, self.slow_from, self.grown) = (half, half, 0);
            self.halved = self.halved.wrapping_add(1);
        }
        self.free(1)
    }

    fn free(&mut self, places: usize) -> usize {
        let kept = places.min(self.beyond);
        self.beyond -= kept;
        places - kept
    }
}

/// The limit of one link, with a queue for those that wait.
pub(crate) struct Pace {
    places: Semaphore,
    limit: Mutex<Limit>,
}

/// A place for one connection. Dropped without a result, it changes nothing.
pub(crate) struct Place<'a> {
    pace: &'a Pace,
    halved_before: u32,
    is_left: bool,
}

impl Pace {
    /// At most `most` at once.
    pub(crate) fn new(most: usize) -> Self {
        let limit = Limit::new(most);
        Self { places: Semaphore::new(limit.now), limit: Mutex::new(limit) }
    }

    /// Waits for a place. The caller limits the wait.
    pub(crate) async fn place(&self) -> Place<'_> {
        if let Ok(permit) = self.places.acquire().await {
            permit.forget();
        }
        Place { pace: self, halved_before: self.limit().halved, is_left: false }
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        lock(&self.limit)
    }
}

impl Place<'_> {
    /// The peer has accepted the connection.
    pub(crate) fn succeeded(&mut self) {
        self.leave(|limit, _| limit.succeeded());
    }

    /// The connection was not made, or not at the first attempt.
    pub(crate) fn lost(&mut self) {
        self.leave(Limit::lost);
    }

    fn leave(&mut self, free: impl FnOnce(&mut Limit, u32) -> usize) {
        if !std::mem::replace(&mut self.is_left, true) {
            let free = free(&mut self.pace.limit(), self.halved_before);
            self.pace.places.add_permits(free);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave(|limit, _| limit.free(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places that become free when `count` connections succeed.
    fn succeed(limit: &mut Limit, count: usize) -> usize {
        (0..count).map(|_| limit.succeeded()).sum()
    }

    #[test]
    fn it_doubles_with_each_round_until_one_is_lost() {
        let mut limit = Limit::new(20);
        for expected in [8, 16, 20] {
            let under_way = limit.now;
            let free = succeed(&mut limit, under_way);
            assert_eq!((limit.now, free), (expected, expected));
        }
        assert_eq!(limit.lost(0), 0, "its place is beyond the limit of 10");
        assert_eq!(succeed(&mut limit, 9), 0);
        assert_eq!((limit.now, limit.beyond), (10, 0));
        assert_eq!(succeed(&mut limit, 10), 11);
        assert_eq!(limit.now, 11, "one more for a round");
    }

    #[test]
    fn connections_that_are_lost_together_count_once() {
        let mut limit = Limit::new(64);
        while limit.now < 64 {
            succeed(&mut limit, 1);
        }
        let lost = |limit: &mut Limit, halved| assert_eq!(limit.lost(halved), 0);
        (0..20).for_each(|_| lost(&mut limit, 0));
        assert_eq!(limit.now, 32);
        lost(&mut limit, 1);
        assert_eq!(limit.now, 16);
        (2..20).for_each(|halved| lost(&mut limit, halved));
        assert_eq!(limit.now, FEW);
        assert_eq!(Limit::new(1).now, 1);
    }

    #[tokio::test]
    async fn a_place_that_is_given_up_is_free_again() {
        let pace = Pace::new(2);
        let (first, mut second) = (pace.place().await, pace.place().await);
        assert_eq!(pace.places.available_permits(), 0);
        drop(first);
        second.succeeded();
        drop(second);
        assert_eq!(pace.places.available_permits(), 2);
    }
}
