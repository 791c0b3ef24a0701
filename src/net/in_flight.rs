//! The requests in flight at a server, and the share of each session.
//!
//! More requests than keep the upstreams busy are no faster: each one more takes memory, and cache of the core from the
//! others. At that number a session over its share is not read until some of its requests are answered; unread requests
//! wait at the client, where they cost nothing. The same holds for the bytes of large replies: those in flight stand in the
//! way of all replies behind them, and clients that read nothing would fill the way with theirs.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The requests in flight on all connections of a server.
pub(super) struct InFlight {
    /// The number that keeps the upstreams busy.
    enough: usize,
    /// The bytes of large replies that do.
    enough_bytes: usize,
    requests: AtomicUsize,
    /// Expected bytes of large replies.
    bytes: AtomicUsize,
    /// Connections that have any.
    busy: AtomicUsize,
}

/// The requests in flight on one connection; none once it is dropped.
pub(super) struct Share<'a> {
    total: &'a InFlight,
    /// The number last added to the total: once for each read, not for each request.
    reported: usize,
    reported_bytes: usize,
}

impl InFlight {
    /// A limit of about `enough` requests, and of `enough_bytes` of large replies.
    pub(super) fn new(enough: usize, enough_bytes: usize) -> Self {
        let (requests, bytes, busy) = Default::default();
        Self { enough, enough_bytes, requests, bytes, busy }
    }

    /// The share of a connection without requests.
    pub(super) fn share(&self) -> Share<'_> {
        Share { total: self, reported: 0, reported_bytes: 0 }
    }
}

impl Share<'_> {
    /// Reports the requests in flight `here`, each for a large reply of `size` bytes or a small one (0), and returns their
    /// limit: what the others leave of what is enough, and at least an equal share; of bytes, `unread` ones are used up.
    /// Shares that read the total at the same moment may exceed it by a few.
    pub(super) fn limit(&mut self, here: usize, size: usize, unread: usize) -> usize {
        let total = self.total;
        if total.enough == usize::MAX {
            return usize::MAX;
        }
        self.report(here, here * size);
        let busy = total.busy.load(Ordering::Relaxed).max(1);
        let left = |enough: usize, all: &AtomicUsize, here: usize| {
            let others = all.load(Ordering::Relaxed).saturating_sub(here);
            enough.saturating_sub(others).max(enough / busy)
        };
        let requests = left(total.enough, &total.requests, here);
        match size {
            0 => requests,
            size => {
                let bytes = left(total.enough_bytes, &total.bytes, here * size);
                requests.min(bytes.saturating_sub(unread) / size)
            }
        }
    }

    fn report(&mut self, here: usize, bytes: usize) {
        // Relaxed: these are sums, and one that is a moment old is near enough.
        let total = self.total;
        if here != self.reported {
            total.requests.fetch_add(here.wrapping_sub(self.reported), Ordering::Relaxed);
        }
        if bytes != self.reported_bytes {
            total.bytes.fetch_add(bytes.wrapping_sub(self.reported_bytes), Ordering::Relaxed);
        }
        if (here > 0) != (self.reported > 0) {
            total.busy.fetch_add(if here > 0 { 1 } else { 1_usize.wrapping_neg() }, Ordering::Relaxed);
        }
        (self.reported, self.reported_bytes) = (here, bytes);
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.report(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn one_session_may_use_all_until_others_have_requests() {
        let total = InFlight::new(100, MIB);
        let (mut first, mut second) = (total.share(), total.share());
        assert_eq!(first.limit(0, 0, 0), 100);
        assert_eq!(first.limit(100, 0, 0), 100, "no other session has any");
        assert_eq!(
            second.limit(0, 0, 0),
            100,
            "nothing is left, but the equal share of one busy session is all"
        );
        assert_eq!(second.limit(1, 0, 0), 50, "the equal share of two is half");
        assert_eq!(first.limit(100, 0, 0), 99, "requests over the limit stay in flight");
        assert_eq!(first.limit(50, 0, 0), 99);
        drop(first);
        assert_eq!(second.limit(1, 0, 0), 100);
        drop(second);
        assert_eq!((total.requests.into_inner(), total.busy.into_inner()), (0, 0));
    }

    #[test]
    fn with_more_sessions_than_requests_the_limit_of_most_is_none() {
        let total = InFlight::new(2, MIB);
        let mut shares: Vec<Share<'_>> = (0..5).map(|_| total.share()).collect();
        let limits: Vec<usize> = shares.iter_mut().map(|share| share.limit(1, 0, 0)).collect();
        assert_eq!(limits, [2, 1, 0, 0, 0], "the caller lets one through");
        assert_eq!(shares[0].limit(1, 0, 0), 0, "nor have the first any more");
    }

    #[test]
    fn sessions_with_large_replies_share_the_bytes_and_small_ones_do_not_wait_for_them() {
        let total = InFlight::new(1000, 8 * MIB);
        let (mut first, mut second, mut small) = (total.share(), total.share(), total.share());
        assert_eq!(first.limit(0, MIB, 0), 8);
        assert_eq!(first.limit(8, MIB, 0), 8, "no other session has any");
        assert_eq!(second.limit(1, MIB, 0), 4, "an equal share of two");
        assert_eq!(first.limit(8, MIB, 0), 7);
        assert_eq!(small.limit(10, 0, 0), 1000 - 9);
        drop((first, second));
        assert_eq!(small.limit(10, MIB, 0), 8);
        assert_eq!(small.limit(1, MIB, 6 * MIB), 2, "its client has not read 6 MiB");
        drop(small);
        assert_eq!((total.requests.into_inner(), total.bytes.into_inner()), (0, 0));
    }
}
