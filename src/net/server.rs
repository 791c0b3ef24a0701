//! The front end of the line protocol: accepts, within limits, until it is told to stop; then lets them finish.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::accept::{Door, Front, accept};
use super::conn;
use super::crowd::Crowd;
use super::shared::{ServerLimits, Shared};
use super::transport::{Listener, Stream};
use crate::handler::Handler;
use crate::wire::Status;

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
