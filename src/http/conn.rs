//! One HTTP connection: served by hyper, under the deadlines of the line protocol.
//!
//! ```text
//!   head (within the line deadline) ──▶ between heads: answering, streaming, or idle (within the idle deadline) ──▶ head …
//!   blocked: the client does not read what we write (within the write deadline)
//! ```
//! These deadlines cost a request no look at the clock: a coarse tick checks whether anything has moved since the last.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::body::Response;
use crate::net::ServerLimits;
use crate::net::transport::Stream;
use crate::net::unread::Backlog;

/// The limit of bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// The limit of header lines of a request.
const MAX_HEADERS: usize = 64;
/// After a stop, an idle connection is kept open for this time: a request may be on its way to us. Its response tells the
/// client to use another connection; without a response the client would see an error.
const IDLE_END: Duration = Duration::from_millis(500);
/// The limit of bytes of one read or write.
const MAX_BUFFER: usize = 64 * 1024;

/// The state of a connection that its deadlines depend on.
#[derive(Default, Debug)]
pub(super) struct Activity {
    /// A whole head has been received, and no byte of the next one.
    between_heads: AtomicBool,
    /// The client does not read: the last write had to wait.
    blocked: AtomicBool,
    /// The next response is the last one.
    ending: AtomicBool,
    /// Changes with each write, each whole head, and the first read of the next head. Its further bytes change nothing: a
    /// head that trickles in has one deadline.
    moves: AtomicU64,
}

impl Activity {
    /// A whole head has been received.
    pub(super) fn head_received(&self) {
        self.between_heads.store(true, Relaxed);
        self.moved();
    }

    /// Whether the next response has to say that it is the last one.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    fn moved(&self) {
        // A load and a store, not an atomic addition: only the task of the connection writes.
        self.moves.store(self.moves.load(Relaxed).wrapping_add(1), Relaxed);
    }

    fn has_read(&self) {
        if self.between_heads.load(Relaxed) {
            self.between_heads.store(false, Relaxed);
            self.moved();
        }
    }

    fn has_written<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.blocked.store(written.is_pending(), Relaxed);
        if written.is_ready() {
            self.moved();
        }
        written
    }

    /// The time within which the next move has to come.
    fn deadline(&self, limits: &ServerLimits) -> Duration {
        match (self.blocked.load(Relaxed), self.between_heads.load(Relaxed)) {
            (true, _) => limits.write_deadline,
            (false, true) => limits.idle_deadline,
            (false, false) => limits.line_deadline,
        }
    }
}

/// Serves one connection to its end. After `stop` it ends with the next response, or soon if no request comes.
pub(super) async fn serve<S>(
    stream: Stream,
    service: S,
    activity: Arc<Activity>,
    limits: &ServerLimits,
    stop: &CancellationToken,
) where
    S: Service<hyper::Request<Incoming>, Response = Response, Error = std::convert::Infallible> + Send,
    S::Future: Send,
{
    // Responses are small and complete: Nagle's algorithm would only delay them. The error is that of a closed socket,
    // which the first read reports as well.
    let _ = stream.set_nodelay(true);
    let backlog = limits.unread.backlog();
    let io = TokioIo::new(ActiveStream {
        stream,
        activity: activity.clone(),
        backlog,
        held: 0,
        still_since: None,
    });
    let conn = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .header_read_timeout(None::<Duration>)
        .serve_connection(io, service);
    let overdue = overdue(&activity, limits);
    let stopped = async {
        stop.cancelled().await;
        activity.ending.store(true, Relaxed);
        sleep(IDLE_END.min(limits.drain / 2)).await;
    };
    tokio::pin!(conn, overdue);
    // An error of the connection needs no handling: the client got every response that could be sent.
    tokio::select! {
        biased;
        _ = conn.as_mut() => return,
        () = stopped => conn.as_mut().graceful_shutdown(),
        () = overdue.as_mut() => return,
    }
    tokio::select! {
        biased;
        _ = conn => {}
        () = overdue => {}
    }
}

/// Completes when nothing has moved for as long as [`Activity::deadline`] allows. Up to two ticks late: the last move is
/// noticed at a tick, and so is its age.
async fn overdue(activity: &Activity, limits: &ServerLimits) {
    let shortest = limits.line_deadline.min(limits.write_deadline).min(limits.idle_deadline);
    let tick = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let (mut moves, mut since) = (u64::MAX, Instant::now());
    loop {
        sleep(tick).await;
        let (seen, now) = (activity.moves.load(Relaxed), Instant::now());
        if seen != moves {
            (moves, since) = (seen, now);
        } else if now - since >= activity.deadline(limits) {
            return;
        }
    }
}

/// A stream that notes its reads and writes in [`Activity`].
struct ActiveStream<'a> {
    stream: Stream,
    activity: Arc<Activity>,
    backlog: Backlog<'a>,
    /// Bytes of the response that is being written, written ones included: all stay in memory until the last one has left.
    held: usize,
    /// Since when the client takes no bytes: the time of the first write that had to wait after one that succeeded.
    still_since: Option<Instant>,
}

impl ActiveStream<'_> {
    /// Notes the result of a write of `left` bytes.
    fn has_written(
        &mut self,
        cx: &Context<'_>,
        left: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.held = self.held.max(left);
        match &written {
            Poll::Pending => {
                let now = Instant::now();
                let since = *self.still_since.get_or_insert(now);
                self.backlog.set(cx, self.held, since, now)?;
            }
            Poll::Ready(taken) => {
                self.still_since = None;
                if taken.as_ref().is_ok_and(|&taken| taken == left) {
                    self.held = 0;
                    self.backlog.clear();
                }
            }
        }
        self.activity.has_written(written)
    }
}

impl AsyncRead for ActiveStream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ActiveStream<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.has_written(cx, buf.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.has_written(cx, bufs.iter().map(|buf| buf.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
