//! The task of a session: dials, offers the session with HELLO, and carries its bytes until it ends.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::debug;

use super::addresses::Addresses;
use super::calls::Calls;
use super::session::{Session, Stage};
use super::session_io::SessionIo;
use super::{LinkError, LinkLimits, follow, plain};
use crate::net::transport::Stream;
use crate::wire::{ReplyView, Request, Status};

/// A session that a task of its own connects and offers; requests on it are queued until then.
pub(super) fn dial(addresses: Arc<Addresses>, limits: LinkLimits) -> Arc<Session> {
    let session = Arc::new(Session::new(addresses.peer().clone(), limits));
    tokio::spawn(SessionTask(session.clone()).run(addresses));
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
    async fn run(self, addresses: Arc<Addresses>) {
        let session = &self.0;
        let Session { peer, limits, .. } = &**session;
        let mut stream = match addresses.dial_for(limits).await {
            Ok(dialled) => dialled.stream,
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
                state.stage = Stage::Granted;
                state.calls = Calls::from_anywhere(max_in_flight.min(limits.max_in_flight));
                state.send_queued();
            }
            // It has sessions, and no place for one more.
            Ok(Err(LinkError::Busy)) => return session.close(Stage::Over, LinkError::Busy),
            // Also without an answer, which leaves open whether the peer has sessions: it may still answer plain requests.
            Ok(_) | Err(_) => return session.close(Stage::Plain, LinkError::Broken),
        }
        let _follows = follow::start(session, addresses, stream.peer_addr().ok());
        let mut io = SessionIo::new(session, stream);
        let mut over = std::future::poll_fn(|cx| io.poll(cx));
        let error = match timeout(limits.hello_deadline, &mut over).await {
            Ok(error) => error,
            Err(_) => {
                session.lock().is_proven();
                over.await
            }
        };
        debug!(%peer, %error, "the session is over");
        if session.stage() == Stage::Granted {
            // Closed before it answered anything: a node without sessions has passed HELLO on, and its answer back.
            session.close(Stage::Plain, LinkError::Broken);
        }
    }
}

/// Offers a session with HELLO. Returns how many requests may be in flight on it, or `None` when the peer has no sessions;
/// `Busy` when it has no place for one.
pub(crate) async fn hello(stream: &mut Stream) -> Result<Option<usize>, LinkError> {
    let mut line = Vec::new();
    Request::Hello.write(&mut line);
    line.push(b'\n');
    stream.write_all(&line).await.map_err(|_| LinkError::Broken)?;
    let line = plain::read_line(stream, 4096).await?;
    let Ok(reply) = ReplyView::parse(&line) else { return Ok(None) };
    match reply.status {
        Status::Ok => Ok(max_in_flight(reply.data)),
        Status::Overloaded => Err(LinkError::Busy),
        _ => Ok(None),
    }
}

fn max_in_flight(granted: &str) -> Option<usize> {
    let data: serde_json::Value = serde_json::from_str(granted).ok()?;
    (data["protocol"].as_f64()? as u64 == 2).then_some(data["max_in_flight"].as_f64()? as usize)
}
