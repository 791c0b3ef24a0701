//! Accepts connections, within limits, until it is told to stop; then lets them finish, within a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::conn;
use super::transport::{self, Listener, Stream};
use crate::handler::Handler;
use crate::wire::request::RequestError;
use crate::wire::{Reply, Status};

/// How many askers beyond the limit are told so at the same time; further ones are closed unheard.
const TURNED_AWAY: usize = 256;
/// How long to wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// When a port is handed over, handshakes that have begun with us must end within this time.
const HANDSHAKES_END: Duration = Duration::from_millis(200);

/// What a server bounds.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections open at once.
    pub max_connections: usize,
    /// Requests under way on one session.
    pub max_in_flight: usize,
    /// A request line must have arrived whole within this time.
    pub line_deadline: Duration,
    /// A reply must be taken within this time.
    pub write_deadline: Duration,
    /// A session on which nothing happens is closed after this time.
    pub idle_deadline: Duration,
    /// After a stop, what is under way must end within this time.
    pub drain: Duration,
    /// How many listeners this process has, if it leaves the port to another one after a stop: nobody may be lost
    /// between the two.
    pub hand_over: Option<usize>,
    /// Requests that take as long are logged.
    pub slow_log: Option<Duration>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_in_flight: 1024,
            line_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(300),
            drain: Duration::from_secs(10),
            hand_over: None,
            slow_log: None,
        }
    }
}

/// What all connections of a server have in common.
pub(super) struct Shared<H> {
    pub(super) handler: Arc<H>,
    pub(super) limits: ServerLimits,
    /// No more connections are accepted.
    stop: CancellationToken,
    /// Connections end as soon as they have answered what came.
    pub(super) ending: CancellationToken,
    open: AtomicUsize,
    turned_away: AtomicUsize,
}

impl<H: Handler> Shared<H> {
    /// The reply to a line that is not a request.
    pub(super) fn refusal(&self, error: RequestError<'_>) -> Reply {
        let status = match error {
            RequestError::Unknown(_) => Status::WrongMethod,
            RequestError::Shape | RequestError::Usage(_) | RequestError::Key(_) => Status::BadRequest,
        };
        self.handler.error(status, error.to_string())
    }
}

/// A front end for the line protocol: one, however many listeners it serves.
pub struct Server<H>(Arc<Shared<H>>);

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
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

impl<H: Handler> Server<H> {
    /// A server that answers with `handler` until `stop` is cancelled.
    pub fn new(handler: Arc<H>, limits: ServerLimits, stop: CancellationToken) -> Self {
        let (open, turned_away) = Default::default();
        // Without a next process there is nothing to be done between the two.
        let ending = if limits.hand_over.is_some() { CancellationToken::new() } else { stop.clone() };
        Self(Arc::new(Shared { handler, limits, stop, ending, open, turned_away }))
    }

    /// Serves a listener until the stop; returns when its connections have ended. False when some had to be cut.
    pub async fn serve(&self, listener: Listener) -> bool {
        let tasks = TaskTracker::new();
        let mut short = false;
        let stop = self.0.stop.cancelled();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            self.accepted(accepted, &tasks, &mut short).await;
        }
        #[cfg(not(sim))]
        if let Some(ours) = self.0.limits.hand_over {
            transport::leave(&listener, ours);
            // Only now: who loses a session comes back at once, and shall meet the next process.
            self.0.ending.cancel();
            let end = Instant::now() + HANDSHAKES_END;
            while let Ok(accepted) = timeout_at(end, listener.accept()).await {
                self.accepted(accepted, &tasks, &mut short).await;
            }
            transport::close(&listener, ours);
        }
        self.0.ending.cancel();
        // Those whose connection is made but not yet accepted were promised an answer by the kernel.
        while let Some(accepted) = timeout(Duration::ZERO, listener.accept()).await.ok().filter(Result::is_ok)
        {
            self.accepted(accepted, &tasks, &mut short).await;
        }
        drop(listener);
        tasks.close();
        timeout(self.0.limits.drain, tasks.wait()).await.is_ok()
    }

    /// No accept error ends the loop, and none makes it spin.
    async fn accepted(
        &self,
        accepted: io::Result<(Stream, SocketAddr)>,
        tasks: &TaskTracker,
        short: &mut bool,
    ) {
        match accepted {
            Ok((stream, peer)) => {
                if std::mem::take(short) {
                    warn!("accepting connections again");
                }
                self.admit(stream, peer.ip().to_canonical(), tasks);
            }
            Err(error) if is_of_the_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                if !std::mem::replace(short, true) {
                    warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n) or lower --max-connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn admit(&self, stream: Stream, from: IpAddr, tasks: &TaskTracker) {
        let shared = self.0.clone();
        tasks.spawn(async move {
            if let Some(_counted) = Counted::below(shared.limits.max_connections, &shared.open) {
                conn::serve(stream, from, &shared).await;
            } else if let Some(_counted) = Counted::below(TURNED_AWAY, &shared.turned_away) {
                let text = "this node has as many connections as --max-connections allows; try again later";
                conn::turn_away(stream, shared.handler.error(Status::Overloaded, text.to_owned())).await;
            }
        });
    }
}

/// Whether an accept error is about one connection only.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
