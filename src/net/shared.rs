//! What all connections of a server have in common: its handler, its limits, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::crowd::Crowd;
use super::unread::Unread;
use crate::handler::Handler;
use crate::wire::request::RequestError;
use crate::wire::{Reply, Status};

/// What a server bounds.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections open at once.
    pub max_connections: usize,
    /// Requests under way on one session.
    pub max_in_flight: usize,
    /// The number of requests in flight on all connections that keeps the upstreams busy: near it, each session is read only
    /// up to its share. `usize::MAX` for a role that answers from memory, so that hits never queue behind misses.
    pub enough: usize,
    /// A request line must have arrived whole within this time.
    pub line_deadline: Duration,
    /// A reply must be taken within this time.
    pub write_deadline: Duration,
    /// What waits to be read, at all front ends that have this in common.
    pub unread: Arc<Unread>,
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
            enough: usize::MAX,
            line_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(10),
            unread: Arc::new(Unread::new(Unread::DEFAULT_LIMIT)),
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
    pub(super) crowd: Crowd,
    /// No more connections are accepted.
    pub(super) stop: CancellationToken,
    /// Connections end as soon as they have answered what came.
    pub(super) ending: CancellationToken,
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
