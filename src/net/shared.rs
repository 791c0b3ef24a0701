//! The state that all connections of a server share: the handler, limits, counts, and the stop.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::in_flight::InFlight;
use super::tls::ServerTls;
use super::unread::Unread;
use crate::handler::Handler;
use crate::wire::request::RequestError;
use crate::wire::{Reply, Status};

/// The text for a client without TLS.
const NEEDS_TLS: &str = "this port speaks TLS; dproxy client does so with --peer-ca";

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Open connections.
    pub max_connections: usize,
    /// Requests in flight on one session.
    pub max_in_flight: usize,
    /// The number of requests in flight on all connections that keeps the upstreams busy: near it, each session is read only
    /// up to its share. `usize::MAX` for a role that answers from memory, so that hits never queue behind misses.
    pub enough: usize,
    /// The time for a request line to arrive whole.
    pub line_deadline: Duration,
    /// The time for a client to read a reply.
    pub write_deadline: Duration,
    /// Bytes of replies that clients have not read; the front ends of a process share it.
    pub unread: Arc<Unread>,
    /// A session without requests is closed after this time.
    pub idle_deadline: Duration,
    /// The time for requests in flight to end after a stop.
    pub drain: Duration,
    /// The number of listeners of this process, if another process takes its port over after a stop: no connection may be
    /// lost between the two.
    pub hand_over: Option<usize>,
    /// Requests that take this long or longer are logged.
    pub slow_log: Option<Duration>,
    /// TLS with clients; `None` for plain text.
    pub tls: Option<ServerTls>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_in_flight: 1024,
            enough: usize::MAX,
            line_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(10),
            unread: Arc::new(Unread::new(Unread::DEFAULT_LIMIT)),
            idle_deadline: Duration::from_secs(300),
            drain: Duration::from_secs(10),
            hand_over: None,
            slow_log: None,
            tls: None,
        }
    }
}

/// The state that all connections of a server share.
pub(super) struct Shared<H> {
    pub(super) handler: Arc<H>,
    pub(super) limits: ServerLimits,
    pub(super) in_flight: InFlight,
    /// No more connections are accepted.
    pub(super) stop: CancellationToken,
    /// Connections end as soon as they have answered the requests that have arrived.
    pub(super) ending: CancellationToken,
}

impl<H: Handler> Shared<H> {
    /// The line for a client without TLS at a port that speaks it.
    pub(super) fn needs_tls(&self) -> Vec<u8> {
        let reply = self.handler.error(Status::BadRequest, NEEDS_TLS.to_owned());
        (reply.to_line() + "\n").into_bytes()
    }

    /// The reply to a line that is not a request.
    pub(super) fn refusal(&self, error: RequestError<'_>) -> Reply {
        let status = match error {
            RequestError::Unknown(_) => Status::WrongMethod,
            RequestError::Shape | RequestError::Usage(_) | RequestError::Key(_) => Status::BadRequest,
        };
        self.handler.error(status, error.to_string())
    }
}
