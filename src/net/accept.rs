//! The accept loop of every front end: limits, one task per connection, and an end within the drain.

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

/// Connections beyond `max_connections` that are told OVERLOADED at the same time; further ones are closed at once.
const TURNED_AWAY: usize = 256;
/// The wait after an accept that failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time for handshakes under way to end when the port is handed over.
const HANDSHAKES_END: Duration = Duration::from_millis(200);

/// Serves accepted connections: the line server, and the HTTP gateway.
pub trait Front: Send + Sync + 'static {
    /// Serves one connection to its end. Must return by itself, soon after a stop.
    fn serve(&self, stream: Stream, from: IpAddr) -> impl Future<Output = ()> + Send;

    /// No further connection will be accepted: open ones are to end soon.
    fn end(&self) {}

    /// Sends OVERLOADED to a client over the limit of connections, and closes.
    fn turn_away(&self, stream: Stream) -> impl Future<Output = ()> + Send;
}

/// The open connections of all listeners of a front end, and their limits.
#[derive(Debug)]
pub struct Door {
    max_connections: usize,
    drain: Duration,
    /// The deadline of open connections, set at the stop.
    end: OnceLock<Instant>,
    /// The number of listeners, if a next process may take their port over.
    hand_over: Option<usize>,
    open: AtomicUsize,
    turned_away: AtomicUsize,
}

impl Door {
    /// At most `max_connections` are open; after a stop they must end within `drain`.
    pub fn new(max_connections: usize, drain: Duration) -> Self {
        let (open, turned_away) = Default::default();
        Self { max_connections, drain, end: OnceLock::new(), hand_over: None, open, turned_away }
    }

    /// With the number of listeners, if a next process may take their port over.
    pub fn handed_over(self, listeners: Option<usize>) -> Self {
        Self { hand_over: listeners, ..self }
    }

    /// The deadline of open connections: the first call starts the drain.
    pub fn end(&self) -> Instant {
        *self.end.get_or_init(|| Instant::now() + self.drain)
    }

    /// The number of open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Counts one connection until it is dropped.
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

/// Accepts until `stop`; returns when the connections have ended. False when the drain ran out first.
pub async fn accept<F: Front>(
    listener: Listener,
    front: &Arc<F>,
    door: &Arc<Door>,
    stop: impl Future<Output = ()>,
) -> bool {
    let mut acceptor = Acceptor { front, door, tasks: TaskTracker::new(), short: false };
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        acceptor.accepted(accepted).await;
    }
    let end = door.end();
    if let Some(ours) = door.hand_over {
        handover::leave(&listener, ours);
        // After `leave`: clients reconnect as soon as their session ends, and must reach the next process.
        front.end();
        let last = Instant::now() + HANDSHAKES_END;
        while let Ok(accepted) = timeout_at(last, listener.accept()).await {
            acceptor.accepted(accepted).await;
        }
        handover::close(&listener, ours);
    }
    front.end();
    // The kernel has accepted these connections: their clients expect an answer.
    while let Some(accepted) = timeout(Duration::ZERO, listener.accept()).await.ok().filter(Result::is_ok) {
        acceptor.accepted(accepted).await;
    }
    drop(listener);
    acceptor.tasks.close();
    timeout_at(end, acceptor.tasks.wait()).await.is_ok()
}

/// The connections of one listener.
struct Acceptor<'a, F> {
    front: &'a Arc<F>,
    door: &'a Arc<Door>,
    tasks: TaskTracker,
    /// Whether the last accept failed for lack of descriptors or memory.
    short: bool,
}

impl<F: Front> Acceptor<'_, F> {
    /// Serves a connection. An error neither ends the loop nor makes it spin.
    async fn accepted(&mut self, accepted: io::Result<(Stream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(&mut self.short) {
                    warn!("accepting connections again");
                }
                self.admit(stream, peer.ip().to_canonical());
            }
            Err(error) if is_of_the_connection(&error) => {
                debug!(%error, "a connection was closed before it was accepted");
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
