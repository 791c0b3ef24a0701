//! From a dial to an open session, and to its end: a task of its own.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::debug;

use super::session::{Session, State};
use super::traffic::Traffic;
use super::{LinkError, LinkLimits, Peer, calls, plain};
use crate::net::transport::{self, Stream};
use crate::wire::{ReplyView, Request, Status};

/// Begins to connect, in a task of its own.
pub(super) fn dial(peer: Peer, limits: LinkLimits) -> Arc<Session> {
    let session = Arc::new(Session::new(peer, limits));
    tokio::spawn(Ending(session.clone()).run());
    session
}

/// The task of a session: whichever way it ends, the session is over and everyone who waits is told.
struct Ending(Arc<Session>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close(State::Over, LinkError::Broken);
    }
}

impl Ending {
    async fn run(self) {
        let session = &self.0;
        let Session { peer, limits, .. } = &**session;
        let mut stream = match transport::dial(&peer.host, peer.port, limits.connect_deadline).await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%peer, %error, "cannot connect");
                return session.close(State::Over, LinkError::of_dial(&error));
            }
        };
        match timeout(limits.hello_deadline, hello(&mut stream)).await {
            Ok(Ok(Some(max_in_flight))) => {
                let mut inner = session.lock();
                if inner.state != State::Offering {
                    return;
                }
                inner.state = State::Open;
                inner.max_in_flight = max_in_flight.min(limits.max_in_flight).clamp(1, calls::MOST);
                inner.promote();
            }
            // Neither an answer nor a close is no word about sessions; but asked plainly it may still answer.
            Ok(_) | Err(_) => return session.close(State::Plain, LinkError::Broken),
        }
        let mut traffic = Traffic::new(session, stream);
        let error = std::future::poll_fn(|cx| traffic.poll(cx)).await;
        debug!(%peer, %error, "the session is over");
        session.close(State::Over, LinkError::Broken);
    }
}

/// Offers a session: how many requests may be in flight, or `None` when the peer has none.
pub(crate) async fn hello(stream: &mut Stream) -> Result<Option<usize>, LinkError> {
    let mut line = Vec::new();
    Request::Hello.write(&mut line);
    line.push(b'\n');
    stream.write_all(&line).await.map_err(|_| LinkError::Broken)?;
    let line = plain::read_line(stream, 4096).await?;
    let accepted =
        ReplyView::parse(&line).ok().filter(|reply| reply.status == Status::Ok).and_then(|reply| {
            let data: serde_json::Value = serde_json::from_str(reply.data).ok()?;
            (data["protocol"].as_f64()? as u64 == 2).then_some(data["max_in_flight"].as_f64()? as usize)
        });
    Ok(accepted)
}
