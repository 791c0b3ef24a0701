//! The requests in flight at a server, and the share of each session.
//!
//! More requests than keep the upstreams busy are no faster: each one more takes memory, and cache of the core from the
//! others. At that number a session over its share is not read until some of its requests are answered; unread requests
//! wait at the client, where they cost nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The requests in flight on all connections of a server.
pub(super) struct InFlight {
    /// The number that keeps the upstreams busy.
    enough: usize,
    requests: AtomicUsize,
    /// Connections that have any.
    busy: AtomicUsize,
}

/// The requests in flight on one connection; none once it is dropped.
pub(super) struct Share<'a> {
    total: &'a InFlight,
    /// The number last added to the total: once for each read, not for each request.
    reported: usize,
}

impl InFlight {
    /// A limit of about `enough` requests.
    pub(super) fn new(enough: usize) -> Self {
        Self { enough, requests: AtomicUsize::new(0), busy: AtomicUsize::new(0) }
    }

    /// The share of a connection without requests.
    pub(super) fn share(&self) -> Share<'_> {
        Share { total: self, reported: 0 }
    }
}

impl Share<'_> {
    /// Reports the requests in flight here, and returns their limit: what the others leave of `enough`, and at least an equal
    /// share. Shares that read the total at the same moment may exceed `enough` by a few.
    pub(super) fn limit(&mut self, here: usize) -> usize {
        let total = self.total;
        if total.enough == usize::MAX {
            return usize::MAX;
        }
        self.report(here);
        let others = total.requests.load(Ordering::Relaxed).saturating_sub(here);
        let equal = total.enough / total.busy.load(Ordering::Relaxed).max(1);
        total.enough.saturating_sub(others).max(equal)
    }

    fn report(&mut self, here: usize) {
        // Relaxed: these are sums, and one that is a moment old is near enough.
        let InFlight { requests, busy, .. } = self.total;
        if here != self.reported {
            requests.fetch_add(here.wrapping_sub(self.reported), Ordering::Relaxed);
        }
        if (here > 0) != (self.reported > 0) {
            busy.fetch_add(if here > 0 { 1 } else { 1_usize.wrapping_neg() }, Ordering::Relaxed);
        }
        self.reported = here;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.report(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_may_use_all_until_others_have_requests() {
        let total = InFlight::new(100);
        let (mut first, mut second) = (total.share(), total.share());
        assert_eq!(first.limit(0), 100);
        assert_eq!(first.limit(100), 100, "no other session has any");
        assert_eq!(second.limit(0), 100, "nothing is left, but the equal share of one busy session is all");
        assert_eq!(second.limit(1), 50, "the equal share of two is half");
        assert_eq!(first.limit(100), 99, "requests over the limit stay in flight");
        assert_eq!(first.limit(50), 99);
        drop(first);
        assert_eq!(second.limit(1), 100);
        drop(second);
        assert_eq!((total.requests.into_inner(), total.busy.into_inner()), (0, 0));
    }

    #[test]
    fn with_more_sessions_than_requests_the_limit_of_most_is_none() {
        let total = InFlight::new(2);
        let mut shares: Vec<Share<'_>> = (0..5).map(|_| total.share()).collect();
        let limits: Vec<usize> = shares.iter_mut().map(|share| share.limit(1)).collect();
        assert_eq!(limits, [2, 1, 0, 0, 0], "the caller lets one through");
        assert_eq!(shares[0].limit(1), 0, "nor have the first any more");
    }
}
