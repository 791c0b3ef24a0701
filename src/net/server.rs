//! The front end of the line protocol: accepts, within limits, until it is told to stop; then lets them finish.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::accept::{Door, Front, accept};
use super::conn;
use super::crowd::Crowd;
use super::transport::{Listener, Stream};
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
    pub(super) crowd: Crowd,
    /// No more connections are accepted.
    stop: CancellationToken,
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

impl<H: Handler> Front for Shared<H> {
    async fn serve(&self, stream: Stream, from: IpAddr) {
        conn::serve(stream, from, self).await;
    }

    fn end(&self) {
        self.ending.cancel();
    }

    async fn turn_away(&self, stream: Stream) {
        let text = "this node has as many connections as --max-connections allows; try again later";
        conn::turn_away(stream, self.handler.error(Status::Overloaded, text.to_owned())).await;
    }
}

/// A front end for the line protocol: one, however many listeners it serves.
pub struct Server<H> {
    shared: Arc<Shared<H>>,
    door: Arc<Door>,
}

impl<H> Clone for Server<H> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), door: self.door.clone() }
    }
}

impl<H: Handler> Server<H> {
    /// A server that answers with `handler` until `stop` is cancelled.
    pub fn new(handler: Arc<H>, limits: ServerLimits, stop: CancellationToken) -> Self {
        // Without a next process there is nothing to be done between the two.
        let ending = if limits.hand_over.is_some() { CancellationToken::new() } else { stop.clone() };
        let door = Arc::new(Door::new(limits.max_connections, limits.drain).handed_over(limits.hand_over));
        let crowd = Crowd::new(handler.enough());
        Self { shared: Arc::new(Shared { handler, limits, crowd, stop, ending }), door }
    }

    /// What counts its connections.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Serves a listener until the stop; returns when its connections have ended. False when some had to be cut.
    pub async fn serve(&self, listener: Listener) -> bool {
        accept(listener, &self.shared, &self.door, self.shared.stop.cancelled()).await
    }
}
