//! One HTTP connection: hyper's, under the deadlines of the line port.
//!
//! ```text
//!   head (within the line deadline) ──▶ quiet: answering, streaming, or idle (within the idle deadline) ──▶ head …
//!   blocked: the asker does not take what we write (within the write deadline)
//! ```
//! No clock is read for a request: a coarse tick looks whether anything has moved since the last one.

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
use crate::net::unread::Reader;

/// The longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// Header lines of a request.
const MAX_HEADERS: usize = 64;
/// How long a connection may stay idle once it is to end. Its asker may just have sent something: the next response
/// tells it to ask elsewhere, which a connection that is gone does not.
const IDLE_END: Duration = Duration::from_millis(500);
/// What is read and written at a time, at the most.
const MAX_BUFFER: usize = 64 * 1024;

/// What a connection is about, as its deadlines see it.
#[derive(Default, Debug)]
pub(super) struct Watch {
    /// A request was heard since the last byte that began a head.
    quiet: AtomicBool,
    /// The asker does not take what we write.
    blocked: AtomicBool,
    /// The next response is the last one.
    ending: AtomicBool,
    /// Changes whenever something moved.
    moves: AtomicU64,
}

impl Watch {
    /// A whole head has come.
    pub(super) fn heard(&self) {
        self.quiet.store(true, Relaxed);
        self.moved();
    }

    /// Whether the asker is to be told that this is the last response.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    fn moved(&self) {
        // Written by the one task of the connection only.
        self.moves.store(self.moves.load(Relaxed).wrapping_add(1), Relaxed);
    }

    fn has_read(&self) {
        if self.quiet.load(Relaxed) {
            self.quiet.store(false, Relaxed);
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

    /// Within which time something else has to happen.
    fn deadline(&self, limits: &ServerLimits) -> Duration {
        match (self.blocked.load(Relaxed), self.quiet.load(Relaxed)) {
            (true, _) => limits.write_deadline,
            (false, true) => limits.idle_deadline,
            (false, false) => limits.line_deadline,
        }
    }
}

/// Serves one connection to its end. `stop` ends it once what was asked is answered.
pub(super) async fn serve<S>(
    stream: Stream,
    service: S,
    watch: Arc<Watch>,
    limits: &ServerLimits,
    stop: &CancellationToken,
) where
    S: Service<hyper::Request<Incoming>, Response = Response, Error = std::convert::Infallible> + Send,
    S::Future: Send,
{
    // Small and complete responses: nothing waits for more. A socket that is gone already shows at the first read.
    let _ = stream.set_nodelay(true);
    let reader = limits.unread.reader();
    let io = TokioIo::new(Watched { stream, watch: watch.clone(), reader, held: 0, still_since: None });
    let conn = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .header_read_timeout(None::<Duration>)
        .serve_connection(io, service);
    let shortest = limits.line_deadline.min(limits.write_deadline).min(limits.idle_deadline);
    let tick = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let stopped = async {
        stop.cancelled().await;
        watch.ending.store(true, Relaxed);
        sleep(IDLE_END.min(limits.drain / 2)).await;
    };
    let timer = sleep(tick);
    tokio::pin!(conn, timer, stopped);
    let mut is_stopping = false;
    let (mut moves, mut since) = (u64::MAX, Instant::now());
    loop {
        tokio::select! {
            biased;
            // How it ended is of no interest: each asker was told what it could be told.
            _ = &mut conn => return,
            () = &mut stopped, if !is_stopping => {
                is_stopping = true;
                conn.as_mut().graceful_shutdown();
            }
            () = &mut timer => {
                let now = Instant::now();
                let seen = watch.moves.load(Relaxed);
                if seen != moves {
                    (moves, since) = (seen, now);
                } else if now - since >= watch.deadline(limits) {
                    return;
                }
                timer.as_mut().reset(now + tick);
            }
        }
    }
}

/// Tells an asker that there is no room.
pub(super) async fn turn_away(mut stream: Stream, response: &[u8], deadline: Duration) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tell = async {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        // Closing with bytes unread would reset the connection under the response.
        let mut buf = [0; 4096];
        while stream.read(&mut buf).await? > 0 {}
        io::Result::Ok(())
    };
    // Either way the connection is over.
    let _ = tokio::time::timeout(deadline, Box::pin(tell)).await;
}

/// A stream that tells the watch what moves.
struct Watched<'a> {
    stream: Stream,
    watch: Arc<Watch>,
    reader: Reader<'a>,
    /// What is being written, as long as a part of it is left: all of it is there until then.
    held: usize,
    /// Since when the asker has taken nothing.
    still_since: Option<Instant>,
}

impl Watched<'_> {
    /// Of so many bytes that were left, so many were taken, or none could be.
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
                self.reader.is_waited_for(cx, self.held, since, now)?;
            }
            Poll::Ready(taken) => {
                self.still_since = None;
                if taken.as_ref().is_ok_and(|&taken| taken == left) {
                    self.held = 0;
                    self.reader.is_done();
                }
            }
        }
        self.watch.has_written(written)
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.watch.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched<'_> {
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
