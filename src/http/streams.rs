//! Bodies of HTTP/2 that their client has not taken.
//!
//! By flow control (RFC 9113, 5.2) a client may have a hundred responses made and take none of them: the socket never blocks,
//! and nothing of them is among the unread bytes of sockets. So they count from the response on until their last byte is
//! sent, all of a connection together; one that makes no progress is cut when memory is short, as any other.

use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lock::lock;
use crate::net::Unread;
use crate::net::unread::{Backlog, LITTLE};

/// A client makes progress by taking this many bytes at once: more than windows and acknowledgements need.
const PROGRESS: usize = 1024;

/// The bodies of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    held: Mutex<Held>,
    cut: Arc<Cut>,
}

#[derive(Debug)]
struct Held {
    bytes: usize,
    /// The time of the last progress.
    since: Instant,
    backlog: Backlog<Arc<Unread>>,
}

/// Told when the connection is to make room.
#[derive(Default, Debug)]
struct Cut(Notify);

impl Wake for Cut {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Streams {
    pub(super) fn new(unread: Arc<Unread>) -> Arc<Self> {
        let held = Mutex::new(Held { bytes: 0, since: Instant::now(), backlog: unread.owned_backlog() });
        Arc::new(Self { held, cut: Arc::default() })
    }

    /// These bytes, counted as unread until their last slice is dropped. Fewer than `LITTLE` are not counted.
    pub(super) fn counted(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() < LITTLE {
            return bytes;
        }
        let mut held = lock(&self.held);
        if held.bytes == 0 {
            held.since = Instant::now();
        }
        held.bytes += bytes.len();
        self.note(&mut held);
        drop(held);
        Bytes::from_owner(Counted { bytes, streams: self.clone() })
    }

    /// The socket has taken this number of bytes: progress of the client, if it is more than acknowledgements.
    pub(super) fn wrote(&self, bytes: usize) {
        if bytes >= PROGRESS {
            let mut held = lock(&self.held);
            held.since = Instant::now();
            self.note(&mut held);
        }
    }

    /// Completes when the connection is to make room.
    pub(super) async fn cut(&self) {
        self.cut.0.notified().await;
    }

    fn note(&self, held: &mut Held) {
        if held.bytes == 0 {
            return held.backlog.clear();
        }
        let waker = Waker::from(self.cut.clone());
        // An error: it is cut already, and ends soon.
        let _ = held.backlog.set(&Context::from_waker(&waker), held.bytes, held.since, Instant::now());
    }
}

/// Bytes of a body that are not sent.
struct Counted {
    bytes: Bytes,
    streams: Arc<Streams>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut held = lock(&self.streams.held);
        held.bytes -= self.bytes.len();
        self.streams.note(&mut held);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::{Duration, advance};

    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_takes_nothing_is_cut_when_memory_is_short() {
        let unread = Arc::new(Unread::new(10 * MIB));
        let [deaf, reads] = [(); 2].map(|()| Streams::new(unread.clone()));
        let body = |streams: &Arc<Streams>, size| streams.counted(Bytes::from(vec![0; size]));
        let held = [body(&deaf, 4 * MIB), body(&deaf, LITTLE - 1)];
        let mut taken = body(&reads, 4 * MIB);
        assert!(unread.has_no_room_for(3 * MIB, false, Instant::now()));
        advance(Duration::from_secs(1)).await;
        reads.wrote(2 * PROGRESS);
        drop(taken.split_to(MIB));
        assert!(!unread.has_no_room_for(3 * MIB, false, Instant::now()), "there is room");
        assert!(deaf.cut().now_or_never().is_some() && reads.cut().now_or_never().is_none());
        drop((held, taken));
        assert!(!unread.has_no_room_for(10 * MIB, false, Instant::now()), "nothing is held");
    }
}
