//! The accept loop of every front end: limits, one task per connection, and an end within the drain.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::handover;
use super::log_pause::LogPause;
pub(crate) use super::places::Admitted;
use super::places::Places;
use super::transport::{self, Listener, Stream, Tcp};

/// Connections beyond `max_connections`. Health checks are answered there; a client with any other request takes the place of
/// the connection that has been idle for longest, or is told OVERLOADED.
const RESERVE: usize = 256;
/// The least of them; in between it is a quarter of `max_connections`.
const FEW: usize = 8;
/// A connection in the reserve must make its request within this time.
pub(crate) const RESERVE_DEADLINE: Duration = Duration::from_secs(1);
/// A connection must have been idle for this time to make room: the request of a new connection may be on its way.
const GRACE: Duration = Duration::from_millis(100);
/// Looks for a place in the reserve, and the pauses between them: connections that were accepted just now cannot make room
/// before their tasks have run.
const LOOKS: usize = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// The wait after an accept that failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For the lines of the log about such accepts, at any listener of the process.
static LOG_PAUSE: LogPause = LogPause::new();

/// The time for handshakes under way to end when the port is handed over.
const HANDSHAKES_END: Duration = Duration::from_millis(200);

/// The number of connections in the reserve, beyond `max_connections`.
pub(crate) fn reserve(max_connections: usize) -> usize {
    (max_connections / 4).clamp(FEW, RESERVE)
}

/// The most connections that open no more than so many `files` together with their reserve; at least one.
#[cfg(feature = "cli")]
pub(crate) fn connections_within(files: usize) -> usize {
    files.saturating_sub(files.div_ceil(5).clamp(FEW, RESERVE)).max(1)
}

/// Serves accepted connections: the line server, and the HTTP gateway.
pub trait Front: Send + Sync + 'static {
    /// Serves one connection to its end. Must return by itself, soon after a stop, and when its place is given away.
    fn serve(&self, stream: Stream, from: IpAddr, at: Admitted) -> impl Future<Output = ()> + Send;

    /// No further connection will be accepted: open ones are to end soon.
    fn end(&self) {}
}

/// The open connections of all listeners of a front end, and their limits.
#[derive(Debug)]
pub struct Door {
    places: Arc<Places>,
    reserve: Arc<Places>,
    drain: Duration,
    /// The deadline of open connections, set at the stop.
    end: OnceLock<Instant>,
    /// The number of listeners, if a next process may take their port over.
    hand_over: Option<usize>,
}

impl Door {
    /// At most `max_connections` are open; after a stop they must end within `drain`.
    pub fn new(max_connections: usize, drain: Duration) -> Self {
        let places = Places::new(max_connections, GRACE);
        let reserve = Places::new(reserve(max_connections), Duration::ZERO);
        Self { places, reserve, drain, end: OnceLock::new(), hand_over: None }
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
        self.places.taken()
    }

    /// `None` when even the reserve has no place.
    fn admit(&self) -> Option<Admitted> {
        let in_reserve = || Some(Admitted::in_reserve(self.reserve.take()?, self.places.clone()));
        self.places.take_free().map(Admitted::at).or_else(in_reserve)
    }
}

#[cfg(test)]
impl Door {
    /// Whether so many connections have waited for their clients.
    pub(crate) fn are_seated(&self, count: usize) -> bool {
        self.places.are_seated(count)
    }

    /// Has the idlest connection make room. False if nobody is idle, or there is a free place.
    pub(crate) fn give_away(&self) -> bool {
        self.places.take_free().is_none() && self.places.take().is_some()
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
    /// Whether it was logged that accepts fail for lack of descriptors or memory, and not yet that they succeed again.
    short: bool,
}

impl<F: Front> Acceptor<'_, F> {
    /// Serves a connection. An error neither ends the loop nor makes it spin.
    async fn accepted(&mut self, accepted: io::Result<(Tcp, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                if self.short && LOG_PAUSE.is_over() {
                    self.short = false;
                    warn!("accepting connections again");
                }
                self.admit(transport::accepted(stream), peer.ip().to_canonical()).await;
            }
            Err(error) if is_of_the_connection(&error) => {
                debug!(%error, "a connection was closed before it was accepted");
            }
            Err(error) => {
                if !self.short && LOG_PAUSE.is_over() {
                    self.short = true;
                    warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n) or lower --max-connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    async fn admit(&self, stream: Stream, from: IpAddr) {
        for _ in 0..LOOKS {
            if let Some(admitted) = self.door.admit() {
                let front = self.front.clone();
                self.tasks.spawn(async move { front.serve(stream, from, admitted).await });
                return;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        if LOG_PAUSE.is_over() {
            warn!(
                "connections are closed without an answer: all places and the reserve for health checks are busy; raise --max-connections"
            );
        }
    }
}

/// Whether an accept error is about one connection only.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
