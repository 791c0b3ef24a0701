//! The accept loop of every front end: limits, one task per connection, and an end within a deadline.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::handover;
use super::transport::{Listener, Stream};

/// How many askers beyond the limit are told so at the same time; further ones are closed unheard.
const TURNED_AWAY: usize = 256;
/// How long to wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// When a port is handed over, handshakes that have begun with us must end within this time.
const HANDSHAKES_END: Duration = Duration::from_millis(200);

/// What becomes of a connection: the line server and the HTTP gateway.
pub trait Front: Send + Sync + 'static {
    /// Serves one connection to its end. Must end by itself, soon after a stop.
    fn serve(&self, stream: Stream, from: IpAddr) -> impl Future<Output = ()> + Send;

    /// No connection will be accepted any more: those that are open are to end soon.
    fn end(&self) {}

    /// Tells one asker too many that it is.
    fn turn_away(&self, stream: Stream) -> impl Future<Output = ()> + Send;
}

/// How many connections are open at all listeners of a front end, and may be.
#[derive(Debug)]
pub struct Door {
    max_connections: usize,
    drain: Duration,
    /// When all must have ended, once the stop has begun.
    end: OnceLock<Instant>,
    /// How many listeners there are, if their port may be taken over by a next process.
    hand_over: Option<usize>,
    open: AtomicUsize,
    turned_away: AtomicUsize,
}

impl Door {
    /// At most `max_connections` at once; after a stop they must end within `drain`.
    pub fn new(max_connections: usize, drain: Duration) -> Self {
        let (open, turned_away) = Default::default();
        Self { max_connections, drain, end: OnceLock::new(), hand_over: None, open, turned_away }
    }

    /// The same, at a port that a next process may take over from these `listeners`.
    pub fn handed_over(self, listeners: Option<usize>) -> Self {
        Self { hand_over: listeners, ..self }
    }

    /// When all must have ended: the drain is counted from the first time that this is asked.
    pub fn end(&self) -> Instant {
        *self.end.get_or_init(|| Instant::now() + self.drain)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Counts one connection for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// Counts up, if there is room below `limit`.
    fn below(limit: usize, count: &'a AtomicUsize) -> Option<Self> {
        let counted = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until `stop`; returns when the connections have ended. False when some had to be cut.
pub async fn accept<F: Front>(
    listener: Listener,
    front: &Arc<F>,
    door: &Arc<Door>,
    stop: impl Future<Output = ()>,
) -> bool {
    let mut entrance = Entrance { front, door, tasks: TaskTracker::new(), short: false };
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        entrance.accepted(accepted).await;
    }
    let end = door.end();
    if let Some(ours) = door.hand_over {
        handover::leave(&listener, ours);
        // Only now: who loses a session comes back at once, and shall meet the next process.
        front.end();
        let last = Instant::now() + HANDSHAKES_END;
        while let Ok(accepted) = timeout_at(last, listener.accept()).await {
            entrance.accepted(accepted).await;
        }
        handover::close(&listener, ours);
    }
    front.end();
    // Those whose connection is made but not yet accepted were promised an answer by the kernel.
    while let Some(accepted) = timeout(Duration::ZERO, listener.accept()).await.ok().filter(Result::is_ok) {
        entrance.accepted(accepted).await;
    }
    drop(listener);
    entrance.tasks.close();
    timeout_at(end, entrance.tasks.wait()).await.is_ok()
}

/// One listener's.
struct Entrance<'a, F> {
    front: &'a Arc<F>,
    door: &'a Arc<Door>,
    tasks: TaskTracker,
    /// Whether the last accept failed for want of descriptors or memory.
    short: bool,
}

impl<F: Front> Entrance<'_, F> {
    /// No accept error ends the loop, and none makes it spin.
    async fn accepted(&mut self, accepted: io::Result<(Stream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut self.short) {
                    warn!("accepting connections again");
                }
                self.admit(stream, peer.ip().to_canonical());
            }
            Err(error) if is_of_the_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                if !std::mem::replace(&mut self.short, true) {
                    warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n) or lower --max-connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn admit(&self, stream: Stream, from: IpAddr) {
        let (front, door) = (self.front.clone(), self.door.clone());
        self.tasks.spawn(async move {
            if let Some(_counted) = Counted::below(door.max_connections, &door.open) {
                front.serve(stream, from).await;
            } else if let Some(_counted) = Counted::below(TURNED_AWAY, &door.turned_away) {
                front.turn_away(stream).await;
            }
        });
    }
}

/// Whether an accept error is about one connection only.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
