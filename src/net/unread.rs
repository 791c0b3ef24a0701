//! The bytes of replies that clients have not read, for all connections of a process together.
//!
//! Each connection has a limit, but there may be ten thousand of them, and sending requests costs a client less than reading
//! replies. Over half of the process's limit, sessions are read one request at a time and only while their clients have read
//! everything, and connections whose client has read nothing for [`STALLED`] are cut, the longest stalled first. For the
//! reply to a client that has read everything and has one request only, the one that holds the most is cut, if it has read
//! nothing for [`BRIEF`]: many that do not read would refuse it to one that does. Any other reply beyond the limit is
//! OVERLOADED unless it is little. Bytes that a socket accepts at once are not counted: clients that read notice nothing.
//! What the sockets hold themselves is bounded by [`Unread::unsent`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::lock::lock;

/// When memory is short, connections whose client has read nothing for this time are cut.
const STALLED: Duration = Duration::from_millis(500);
/// For the reply to a client that reads, a connection is cut that has read nothing for this time: longer than the pause between
/// two reads of a client nearby.
const BRIEF: Duration = Duration::from_millis(25);
/// Connections, from the one that holds the most on, that are looked at for one to cut.
const LOOKS: usize = 16;
/// Replies below this size are always sent: a socket accepts them at once, unless more is waiting for the same client.
pub(crate) const LITTLE: usize = 16 * 1024;
/// The text of the OVERLOADED for a reply over the limit.
pub(crate) const TOO_MUCH: &str = "too many bytes wait to be read; try again later";

/// The unread bytes of a process, and their limit.
#[derive(Debug)]
pub struct Unread {
    limit: usize,
    /// Written under the lock, read without.
    bytes: AtomicUsize,
    queue: Mutex<Queue>,
}

/// The connections with unread bytes, the longest stalled first.
#[derive(Default, Debug)]
struct Queue {
    next: u64,
    stalls: BTreeMap<u64, Stall>,
    /// The bytes of each; among equals the longest stalled is the last.
    sizes: BTreeSet<(usize, Reverse<u64>)>,
    /// Whether the lack of memory was logged.
    logged: bool,
}

/// One connection that waits for its client.
#[derive(Debug)]
struct Stall {
    bytes: usize,
    /// The time of the client's last read.
    since: Instant,
    task: Waker,
}

/// The unread bytes of one connection; none once it is dropped.
#[derive(Debug)]
pub(crate) struct Backlog<U: Deref<Target = Unread>> {
    unread: U,
    place: Option<u64>,
}

impl Unread {
    /// The default limit in bytes.
    pub const DEFAULT_LIMIT: usize = 256 << 20;

    /// A limit of about `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: AtomicUsize::new(0), queue: Mutex::default() }
    }

    /// The backlog of a new connection.
    pub(crate) fn backlog(&self) -> Backlog<&Self> {
        Backlog { unread: self, place: None }
    }

    /// The backlog of a new connection that is shared by several tasks.
    pub(crate) fn owned_backlog(self: Arc<Self>) -> Backlog<Arc<Self>> {
        Backlog { unread: self, place: None }
    }

    /// Whether sessions should be read one request at a time.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.bytes.load(Relaxed) > self.limit / 2
    }

    /// Whether there is no room for `size` bytes: a reply, and the bytes that wait for the same client. `is_only`: its client
    /// has read everything, and has no other request.
    pub(crate) fn has_no_room_for(&self, size: usize, is_only: bool, now: Instant) -> bool {
        if size < LITTLE || self.fits(size) {
            return false;
        }
        let mut queue = self.queue();
        self.make_room(&mut queue, now);
        while is_only && !self.fits(size) && self.cut_largest(&mut queue, now) {}
        !self.fits(size)
    }

    /// Below half of the limit any size fits, or a small limit would refuse every large document.
    fn fits(&self, size: usize) -> bool {
        !self.is_short_of_room() || self.bytes.load(Relaxed) + size <= self.limit
    }

    /// The limit of the bytes that a socket takes beyond those that are on their way: kernel memory counts for the limit of
    /// a container, too. Of `--max-unread` so small a part that a few hundred clients that read nothing hold no more there
    /// than here.
    pub(crate) fn unsent(&self) -> usize {
        (self.limit / 1024).clamp(64 * 1024, 256 * 1024)
    }

    /// The bytes of replies expected by all connections together that keep the upstreams busy.
    pub(crate) fn enough_expected(&self) -> usize {
        self.limit / 4
    }

    /// Cuts stalled connections while room is short.
    fn make_room(&self, queue: &mut Queue, now: Instant) {
        while self.is_short_of_room() {
            if !std::mem::replace(&mut queue.logged, true) {
                warn!(
                    "many replies are not read; clients that read nothing are cut to make room (--max-unread)"
                );
            }
            let Some((&at, first)) = queue.stalls.first_key_value() else { return };
            if now.saturating_duration_since(first.since) < STALLED {
                return;
            }
            self.cut(queue, at);
        }
        queue.logged &= self.bytes.load(Relaxed) > self.limit / 4;
    }

    /// Cuts the connection that holds the most, unless its client has read just now. False when there is none.
    fn cut_largest(&self, queue: &mut Queue, now: Instant) -> bool {
        let is_still = |at: &u64| {
            queue.stalls.get(at).is_some_and(|stall| now.saturating_duration_since(stall.since) >= BRIEF)
        };
        let largest = queue.sizes.iter().rev().take(LOOKS).map(|(_, Reverse(at))| *at).find(is_still);
        largest.inspect(|&at| self.cut(queue, at)).is_some()
    }

    fn cut(&self, queue: &mut Queue, at: u64) {
        let Some(Stall { bytes, task, .. }) = queue.remove(at) else { return };
        debug!(bytes, "a connection whose replies are not read is cut");
        self.bytes.fetch_sub(bytes, Relaxed);
        task.wake();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Queue {
    fn insert(&mut self, at: u64, stall: Stall) {
        self.sizes.insert((stall.bytes, Reverse(at)));
        self.stalls.insert(at, stall);
    }

    fn remove(&mut self, at: u64) -> Option<Stall> {
        let stall = self.stalls.remove(&at)?;
        self.sizes.remove(&(stall.bytes, Reverse(at)));
        Some(stall)
    }
}

impl<U: Deref<Target = Unread>> Backlog<U> {
    /// Sets the backlog to `bytes`; the client has read nothing `since`. Fails when the connection was cut to make room.
    pub(crate) fn set(
        &mut self,
        cx: &Context<'_>,
        bytes: usize,
        since: Instant,
        now: Instant,
    ) -> io::Result<()> {
        let unread = &*self.unread;
        let mut queue = unread.queue();
        let mut at = queue.next;
        if let Some(place) = self.place {
            let Some(stall) = queue.remove(place) else { return Err(io::ErrorKind::TimedOut.into()) };
            unread.bytes.fetch_sub(stall.bytes, Relaxed);
            if stall.since == since {
                at = place;
            }
        }
        queue.next += u64::from(at == queue.next);
        queue.insert(at, Stall { bytes, since, task: cx.waker().clone() });
        self.place = Some(at);
        unread.bytes.fetch_add(bytes, Relaxed);
        unread.make_room(&mut queue, now);
        Ok(())
    }

    /// The client has read everything.
    pub(crate) fn clear(&mut self) {
        let Some(at) = self.place.take() else { return };
        let removed = self.unread.queue().remove(at);
        if let Some(stall) = removed {
            self.unread.bytes.fetch_sub(stall.bytes, Relaxed);
        }
    }
}

impl<U: Deref<Target = Unread>> Drop for Backlog<U> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn set(backlog: &mut Backlog<&Unread>, bytes: usize, since: Instant, now: Instant) -> bool {
        backlog.set(&Context::from_waker(Waker::noop()), bytes, since, now).is_ok()
    }

    #[test]
    fn stalled_connections_are_cut_when_room_is_short() {
        let unread = Unread::new(10 * MIB);
        let [mut stalled, mut slow, mut late] = [(); 3].map(|()| unread.backlog());
        let begun = Instant::now();
        let then = begun + 2 * STALLED;
        assert!(set(&mut stalled, 3 * MIB, begun, begun) && set(&mut slow, 2 * MIB, begun, begun));
        assert!(set(&mut slow, MIB, then, then), "there is room enough");
        assert!(set(&mut stalled, 3 * MIB, begun, then), "so none is cut");
        assert!(set(&mut late, 2 * MIB, then, then), "this one makes room short");
        assert!(!set(&mut stalled, 3 * MIB, begun, then), "its client read nothing");
        assert!(set(&mut slow, MIB, then, then) && set(&mut late, 2 * MIB, then, then));
        drop((stalled, slow, late));
        assert_eq!(unread.bytes.load(Relaxed), 0);
        assert!(unread.queue().stalls.is_empty());
    }

    #[test]
    fn a_reply_that_would_exceed_the_limit_is_refused_once_room_is_short() {
        let unread = Unread::new(10 * MIB);
        let (begun, mut backlog) = (Instant::now(), unread.backlog());
        assert!(
            !unread.has_no_room_for(12 * MIB, true, begun),
            "nothing waits: a small limit refuses no large document"
        );
        assert!(set(&mut backlog, 6 * MIB, begun, begun));
        assert!(
            unread.has_no_room_for(5 * MIB, true, begun) && !unread.has_no_room_for(4 * MIB, true, begun)
        );
    }

    #[test]
    fn while_all_clients_read_the_next_reply_has_to_wait() {
        let unread = Unread::new(10 * MIB);
        let begun = Instant::now();
        let mut backlogs: Vec<Backlog<&Unread>> = (0..10).map(|_| unread.backlog()).collect();
        for backlog in &mut backlogs {
            assert!(!unread.has_no_room_for(MIB, true, begun) && set(backlog, MIB, begun, begun));
        }
        assert!(unread.has_no_room_for(MIB, true, begun));
        assert!(!unread.has_no_room_for(LITTLE - 1, true, begun), "a little is always sent");
        assert!(backlogs.iter_mut().all(|backlog| set(backlog, MIB, begun, begun)), "none is cut");
        backlogs.pop();
        assert!(!unread.has_no_room_for(MIB, true, begun));
        assert!(set(&mut backlogs[0], MIB, begun, begun + STALLED), "room is made by then");
        assert_eq!(unread.queue().stalls.len(), 5);
    }
    #[test]
    fn a_client_that_reads_gets_the_room_of_the_one_that_holds_the_most_and_reads_nothing() {
        let unread = Unread::new(10 * MIB);
        let [mut small, mut first, mut second, mut reads] = [(); 4].map(|()| unread.backlog());
        let begun = Instant::now();
        let then = begun + BRIEF;
        assert!(set(&mut small, MIB, begun, begun) && set(&mut first, 3 * MIB, begun, begun));
        assert!(set(&mut second, 3 * MIB, begun, begun) && set(&mut reads, 3 * MIB, then, then));
        assert!(unread.has_no_room_for(MIB, true, begun), "all have read just now");
        assert!(unread.has_no_room_for(MIB, false, then), "it has other requests");
        assert!(!unread.has_no_room_for(MIB, true, then));
        assert!(!set(&mut first, 3 * MIB, begun, then), "it is cut");
        assert!(set(&mut small, MIB, begun, then) && set(&mut second, 3 * MIB, begun, then));
        assert!(set(&mut reads, 3 * MIB, then, then));
        drop((small, first, second, reads));
        let queue = unread.queue();
        assert!(queue.stalls.is_empty() && queue.sizes.is_empty() && unread.bytes.load(Relaxed) == 0);
    }
}
