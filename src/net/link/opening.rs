//! The task of a session: dials, offers the session with HELLO, and carries its bytes until it ends.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::debug;

use super::calls::Calls;
use super::session::{Session, Stage};
use super::session_io::SessionIo;
use super::{LinkError, LinkLimits, Peer, plain};
use crate::net::transport::{self, Stream};
use crate::wire::{ReplyView, Request, Status};

/// A session that a task of its own connects and offers; requests on it are queued until then.
pub(super) fn dial(peer: Peer, limits: LinkLimits) -> Arc<Session> {
    let session = Arc::new(Session::new(peer, limits));
    tokio::spawn(SessionTask(session.clone()).run());
    session
}

/// However the task ends, by a panic or with its runtime too, its requests fail and do not wait for ever.
struct SessionTask(Arc<Session>);

impl Drop for SessionTask {
    fn drop(&mut self) {
        self.0.close(Stage::Over, LinkError::Broken);
    }
}

impl SessionTask {
    async fn run(self) {
        let session = &self.0;
        let Session { peer, limits, .. } = &**session;
        let mut stream = match transport::dial(&peer.host, peer.port, limits.connect_deadline).await {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%peer, %error, "cannot connect");
                return session.close(Stage::Over, LinkError::of_dial(&error));
            }
        };
        match timeout(limits.hello_deadline, hello(&mut stream)).await {
            Ok(Ok(Some(max_in_flight))) => {
                let mut state = session.lock();
                if state.stage != Stage::Offering {
                    return;
                }
                state.stage = Stage::Open;
                state.calls = Calls::new(max_in_flight.min(limits.max_in_flight));
                state.send_queued();
            }
            // Also without an answer, which leaves open whether the peer has sessions: it may still answer plain requests.
            Ok(_) | Err(_) => return session.close(Stage::Plain, LinkError::Broken),
        }
        let mut io = SessionIo::new(session, stream);
        let error = std::future::poll_fn(|cx| io.poll(cx)).await;
        debug!(%peer, %error, "the session is over");
    }
}

/// Offers a session with HELLO. Returns how many requests may be in flight on it, or `None` when the peer has no sessions.
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
