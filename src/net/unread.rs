//! The bytes of replies that clients have not read, for all connections of a process together.
//!
//! Each connection has a limit, but there may be ten thousand of them, and sending requests costs a client less than reading
//! replies. Over half of the process's limit, sessions are read one request at a time and only while their clients have read
//! everything, and connections whose client has read nothing for [`STALLED`] are cut, the longest stalled first. A reply
//! beyond the limit is OVERLOADED unless it is little. Bytes that a socket accepts at once are not counted: clients that read
//! notice nothing. What the sockets hold themselves is bounded by [`Unread::unsent`].

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::lock::lock;

/// When memory is short, connections whose client has read nothing for this time are cut.
const STALLED: Duration = Duration::from_millis(500);
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
pub(crate) struct Backlog<'a> {
    unread: &'a Unread,
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
    pub(crate) fn backlog(&self) -> Backlog<'_> {
        Backlog { unread: self, place: None }
    }

    /// Whether sessions should be read one request at a time.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.bytes.load(Relaxed) > self.limit / 2
    }

    /// Whether there is no room for `size` bytes: a reply, and the bytes that wait for the same client.
    pub(crate) fn has_no_room_for(&self, size: usize, now: Instant) -> bool {
        if size < LITTLE || self.fits(size) {
            return false;
        }
        self.make_room(&mut self.queue(), now);
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
            let Some(first) = queue.stalls.first_entry() else { return };
            if now.saturating_duration_since(first.get().since) < STALLED {
                return;
            }
            let Stall { bytes, task, .. } = first.remove();
            debug!(bytes, "a connection whose replies are not read is cut");
            self.bytes.fetch_sub(bytes, Relaxed);
            task.wake();
        }
        queue.logged &= self.bytes.load(Relaxed) > self.limit / 4;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

impl Backlog<'_> {
    /// Sets the backlog to `bytes`; the client has read nothing `since`. Fails when the connection was cut to make room.
    pub(crate) fn set(
        &mut self,
        cx: &Context<'_>,
        bytes: usize,
        since: Instant,
        now: Instant,
    ) -> io::Result<()> {
        let unread = self.unread;
        let mut queue = unread.queue();
        if let Some(at) = self.place {
            let Some(stall) = queue.stalls.get_mut(&at) else { return Err(io::ErrorKind::TimedOut.into()) };
            unread.bytes.fetch_sub(stall.bytes, Relaxed);
            if stall.since == since {
                (stall.bytes, stall.task) = (bytes, cx.waker().clone());
            } else {
                queue.stalls.remove(&at);
                self.place = None;
            }
        }
        if self.place.is_none() {
            let at = queue.next;
            queue.next += 1;
            queue.stalls.insert(at, Stall { bytes, since, task: cx.waker().clone() });
            self.place = Some(at);
        }
        unread.bytes.fetch_add(bytes, Relaxed);
        unread.make_room(&mut queue, now);
        Ok(())
    }

    /// The client has read everything.
    pub(crate) fn clear(&mut self) {
        let Some(at) = self.place.take() else { return };
        if let Some(stall) = self.unread.queue().stalls.remove(&at) {
            self.unread.bytes.fetch_sub(stall.bytes, Relaxed);
        }
    }
}

impl Drop for Backlog<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn set(backlog: &mut Backlog<'_>, bytes: usize, since: Instant, now: Instant) -> bool {
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
            !unread.has_no_room_for(12 * MIB, begun),
            "nothing waits: a small limit refuses no large document"
        );
        assert!(set(&mut backlog, 6 * MIB, begun, begun));
        assert!(unread.has_no_room_for(5 * MIB, begun) && !unread.has_no_room_for(4 * MIB, begun));
    }

    #[test]
    fn while_all_clients_read_the_next_reply_has_to_wait() {
        let unread = Unread::new(10 * MIB);
        let begun = Instant::now();
        let mut backlogs: Vec<Backlog<'_>> = (0..10).map(|_| unread.backlog()).collect();
        for backlog in &mut backlogs {
            assert!(!unread.has_no_room_for(MIB, begun) && set(backlog, MIB, begun, begun));
        }
        assert!(unread.has_no_room_for(MIB, begun));
        assert!(!unread.has_no_room_for(LITTLE - 1, begun), "a little is always sent");
        assert!(backlogs.iter_mut().all(|backlog| set(backlog, MIB, begun, begun)), "none is cut");
        backlogs.pop();
        assert!(!unread.has_no_room_for(MIB, begun));
        assert!(set(&mut backlogs[0], MIB, begun, begun + STALLED), "room is made by then");
        assert_eq!(unread.queue().stalls.len(), 5);
    }
}
