//! The front end of the line protocol: accepts connections within limits until the stop, then lets them finish.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::accept::{Admitted, Door, Front, accept};
use super::in_flight::InFlight;
use super::shared::{ServerLimits, Shared};
use super::tls::{Greeted, Spoken, greet};
use super::transport::{Listener, Stream, limit_unsent};
use super::{closing, conn};
use crate::handler::Handler;

impl<H: Handler> Front for Shared<H> {
    async fn serve(&self, stream: Stream, from: IpAddr, at: Admitted) {
        let tls = self.limits.tls.as_ref().map(|tls| (tls, Spoken::Lines));
        match greet(stream, from, tls, &at, self.limits.line_deadline, self.ending.cancelled()).await {
            Some(Greeted::Ready(stream)) => conn::serve(stream, from, self, &at).await,
            Some(Greeted::Plain(stream)) => closing::turn_away(stream, &self.needs_tls()).await,
            None => {}
        }
    }

    fn end(&self) {
        self.ending.cancel();
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
        // Without a handover, accepting and serving end at the same moment.
        let ending = if limits.hand_over.is_some() { CancellationToken::new() } else { stop.clone() };
        let door = Arc::new(Door::new(limits.max_connections, limits.drain).handed_over(limits.hand_over));
        let in_flight = InFlight::new(limits.enough, limits.unread.enough_expected());
        Self { shared: Arc::new(Shared { handler, limits, in_flight, stop, ending }), door }
    }

    /// The count of its connections, and their limit.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Serves a listener until the stop; returns when its connections have ended. False when the drain ran out first.
    pub async fn serve(&self, listener: Listener) -> bool {
        limit_unsent(&listener, self.shared.limits.unread.unsent());
        accept(listener, &self.shared, &self.door, self.shared.stop.cancelled()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::yield_now;

    use super::*;
    use crate::handler::{Answer, Ask};
    use crate::net::transport::tests::narrow;
    use crate::wire::{Reply, Status};

    /// Answers after a few turns of the runtime, and counts requests in flight.
    #[derive(Default)]
    struct Counting {
        in_flight: AtomicUsize,
        most: AtomicUsize,
    }

    impl Handler for Counting {
        fn answer(self: &Arc<Self>, _: Ask<'_>) -> Answer {
            self.most.fetch_max(self.in_flight.fetch_add(1, Relaxed) + 1, Relaxed);
            let this = self.clone();
            Answer::later(async move {
                for _ in 0..5 {
                    yield_now().await;
                }
                this.in_flight.fetch_sub(1, Relaxed);
                Reply::null(Status::NotFound)
            })
        }
    }

    #[tokio::test]
    async fn a_session_has_no_more_in_flight_than_is_enough() {
        let handler = Arc::new(Counting::default());
        let limits = ServerLimits { enough: 3, ..ServerLimits::default() };
        let server = Server::new(handler.clone(), limits, CancellationToken::new());
        let (listener, mut client) = narrow().await;
        tokio::spawn(async move { server.serve(listener).await });
        let requests: String = (1..=20).map(|id| format!("{id} GET a/{id}\n")).collect();
        client.write_all(format!("HELLO 2\n{requests}").as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut replies = String::new();
        client.read_to_string(&mut replies).await.unwrap();
        assert_eq!(replies.lines().count(), 21, "{replies}");
        assert_eq!(handler.most.load(Relaxed), 3);
    }
}
