//! Connections to an API: kept while they are idle, used again, and made anew.
//!
//! One carries one request at a time (HTTP/1.1), so there are as many as fetches at once; no more than that are kept. One
//! that the name has lost since is not used again, so that a switch of addresses is followed while the old machine lives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::tls::Tls;
use crate::lock::lock;
use crate::net::LinkError;
use crate::net::link::Addresses;
use crate::source::Unmet;

/// An idle connection is closed after this time: servers keep theirs for a minute or so.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// The largest head of a response.
const LARGEST_HEAD: usize = 64 * 1024;

/// The connections to one host.
pub(super) struct Pool {
    addresses: Arc<Addresses>,
    tls: Option<Tls>,
    connect_deadline: Duration,
    most_idle: usize,
    /// The one that was used last at the end.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection that one request has for itself.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Empty<Bytes>>,
    /// Whether it has carried a request before: then the server may have closed it meanwhile.
    pub(super) is_used: bool,
    at: Option<SocketAddr>,
}

/// A stream of bytes, encrypted or not.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Pool {
    pub(super) fn new(
        addresses: Arc<Addresses>,
        tls: Option<Tls>,
        connect_deadline: Duration,
        most_idle: usize,
    ) -> Self {
        Self { addresses, tls, connect_deadline, most_idle, idle: Mutex::default() }
    }

    /// An idle connection that is still open, as far as is known.
    pub(super) async fn idle(&self) -> Option<Connection> {
        loop {
            let Idle { mut connection, since } = lock(&self.idle).pop()?;
            let is_current = connection.at.is_none_or(|at| self.addresses.has(at));
            if since.elapsed() < IDLE_FOR && is_current && connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose response was read to its end.
    pub(super) fn keep(&self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut idle = lock(&self.idle);
        idle.retain(|idle| now.duration_since(idle.since) < IDLE_FOR && !idle.connection.sender.is_closed());
        if idle.len() < self.most_idle {
            idle.push(Idle { connection: Connection { is_used: true, ..connection }, since: now });
        }
    }

    /// A new connection, made by the deadline.
    pub(super) async fn dial(&self, deadline: Instant) -> Result<Connection, Unmet> {
        // A host that takes no connection must not be taken for one that is late with a document.
        let left = deadline.saturating_duration_since(Instant::now());
        let within = self.connect_deadline.min(left * 3 / 4);
        let dialled = self.addresses.dial(within).await;
        let stream = dialled.map_err(|error| Unmet::of(LinkError::of_dial(&error)))?.stream;
        let at = stream.peer_addr().ok();
        let opened = async {
            let io: Box<dyn Io> = match &self.tls {
                None => Box::new(stream),
                Some(tls) => Box::new(tls.connect(stream).await?),
            };
            let mut builder = http1::Builder::new();
            builder.max_buf_size(LARGEST_HEAD);
            builder.handshake(TokioIo::new(io)).await.map_err(|_| Unmet::of(LinkError::Broken))
        };
        let opened = timeout_at(deadline, opened).await.unwrap_or(Err(Unmet::of(LinkError::Late)));
        let (sender, connection) = opened?;
        // It ends when its sender is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection to an API ended");
            }
        });
        Ok(Connection { sender, is_used: false, at })
    }
}
