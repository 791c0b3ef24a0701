//! The bytes of one HTTP connection, and what they say of its state: its deadlines depend on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::streams::Streams;
use crate::net::accept::Admitted;
use crate::net::transport::Stream;
use crate::net::unread::Backlog;
use crate::net::{ServerLimits, Unread};

/// Longer than each response of the parser.
const MAX_OWN: usize = 256;

/// The state of a connection that its deadlines depend on.
#[derive(Debug)]
pub(super) struct Activity {
    at: Admitted,
    /// Responses that the node works on.
    answering: AtomicUsize,
    /// A whole head has been received, and no byte of the next one.
    between_heads: AtomicBool,
    /// A request has come: until then nothing else makes the client busy.
    has_asked: AtomicBool,
    /// The client does not read: the last write had to wait.
    blocked: AtomicBool,
    /// The next response is the last one.
    ending: AtomicBool,
    /// The client may be sending bytes that are not read.
    unread: AtomicBool,
    /// Of a connection of HTTP/2: heads and frames come in any order.
    streams: OnceLock<Arc<Streams>>,
    /// Changes with each write, each whole head, and the first read of the next head. Its further bytes change nothing: a
    /// head that trickles in has one deadline.
    moves: AtomicU64,
}

/// One response that the node works on.
pub(super) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

impl Activity {
    /// Before the first byte of a connection.
    pub(super) fn new(at: Admitted) -> Self {
        let (answering, between_heads, has_asked, blocked) = Default::default();
        let (ending, unread, streams, moves) = Default::default();
        Self { at, answering, between_heads, has_asked, blocked, ending, unread, streams, moves }
    }

    /// The place of the connection.
    pub(super) fn at(&self) -> &Admitted {
        &self.at
    }

    /// The connection is not idle while this is held.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Relaxed);
        Answering(self.clone())
    }

    /// Since when the client does nothing, if nothing has moved since then; `None` while it waits for the node.
    pub(super) fn idle_since(&self, still_since: Instant) -> Option<Instant> {
        (!self.waits_for_us()).then_some(still_since)
    }

    fn waits_for_us(&self) -> bool {
        self.answering.load(Relaxed) > 0 && !self.blocked.load(Relaxed)
    }

    /// A whole head has been received.
    pub(super) fn head_received(&self) {
        self.between_heads.store(true, Relaxed);
        self.has_asked.store(true, Relaxed);
        self.moved();
    }

    /// Whether the next response has to say that it is the last one.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Relaxed) || self.at.is_in_reserve() || self.at.place().was_given_away()
    }

    /// The next response is to be the last one.
    pub(super) fn end_with_next(&self) {
        self.ending.store(true, Relaxed);
    }

    /// The connection ends before all that the client sends is read.
    pub(super) fn leaves_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// Whether the client may still be sending.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// The connection is of HTTP/2.
    pub(super) fn has_streams(&self, unread: Arc<Unread>) {
        self.streams.get_or_init(|| Streams::new(unread));
        self.between_heads.store(true, Relaxed);
    }

    /// The bodies of a connection of HTTP/2.
    pub(super) fn streams(&self) -> Option<&Arc<Streams>> {
        self.streams.get()
    }

    /// Completes when the connection is to make room because its client takes no bodies.
    pub(super) async fn cut(&self) {
        match self.streams() {
            Some(streams) => streams.cut().await,
            None => std::future::pending().await,
        }
    }

    /// A number that changes with each move.
    pub(super) fn moves(&self) -> u64 {
        self.moves.load(Relaxed)
    }

    fn moved(&self) {
        // A load and a store, not an atomic addition: only the task of the connection writes.
        self.moves.store(self.moves.load(Relaxed).wrapping_add(1), Relaxed);
        if self.has_asked.load(Relaxed) {
            self.at.place().note(None);
        }
    }

    /// Bytes were read. Whether they are the first ones of a head.
    fn has_begun_head(&self) -> bool {
        let has_begun = self.between_heads.load(Relaxed) && self.streams().is_none();
        if has_begun {
            self.between_heads.store(false, Relaxed);
            self.moved();
        }
        has_begun
    }

    /// Whether nothing but the first head or the rest of one is awaited, or in the reserve any request.
    fn awaits_head(&self) -> bool {
        let is_within = !self.between_heads.load(Relaxed) || !self.has_asked.load(Relaxed);
        (is_within || self.at.is_in_reserve())
            && self.answering.load(Relaxed) == 0
            && !self.blocked.load(Relaxed)
    }

    fn has_written<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.blocked.store(written.is_pending(), Relaxed);
        if written.is_ready() {
            self.moved();
        }
        written
    }

    /// The time within which the next move has to come.
    pub(super) fn deadline(&self, limits: &ServerLimits) -> Duration {
        match (self.blocked.load(Relaxed), self.between_heads.load(Relaxed)) {
            (true, _) => limits.write_deadline,
            (false, true) => limits.idle_deadline,
            (false, false) => limits.line_deadline,
        }
    }
}

/// The response in bytes to a head that cannot be read, from the code of the parser's own response.
pub(super) type Refuse<'a> = &'a (dyn Fn(u16) -> Vec<u8> + Send + Sync);

/// A stream that notes its reads and writes in [`Activity`].
pub(super) struct ActiveStream<'a> {
    stream: Stream,
    /// Bytes that were read already.
    first: Bytes,
    refuse: Refuse<'a>,
    /// The unwritten rest of our own response to a head that hyper refused, in place of hyper's.
    refusal: Option<Bytes>,
    activity: Arc<Activity>,
    backlog: Backlog<&'a Unread>,
    /// Bytes of the response that is being written, written ones included: all stay in memory until the last one has left.
    held: usize,
    /// Since when the client takes no bytes: the time of the first write that had to wait after one that succeeded.
    still_since: Option<Instant>,
    /// Since when the head that is awaited is not whole; in the reserve, the begin of the connection.
    head_since: Option<Instant>,
}

impl<'a> ActiveStream<'a> {
    /// The stream after its `first` bytes.
    pub(super) fn new(
        stream: Stream,
        first: Bytes,
        activity: Arc<Activity>,
        limits: &'a ServerLimits,
        refuse: Refuse<'a>,
    ) -> Self {
        let backlog = limits.unread.backlog();
        let (refusal, held, still_since, head_since) = Default::default();
        Self { stream, first, refuse, refusal, activity, backlog, held, still_since, head_since }
    }

    /// The stream itself.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Writes the response that replaces the parser's `own`.
    fn poll_refusal(&mut self, cx: &mut Context<'_>, own: &[u8], code: u16) -> Poll<io::Result<usize>> {
        let refuse = self.refuse;
        let rest = self.refusal.get_or_insert_with(|| Bytes::from(refuse(code)));
        self.activity.leaves_unread();
        while !rest.is_empty() {
            let taken = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            rest.advance(taken);
        }
        Poll::Ready(Ok(own.len()))
    }

    /// Notes that bytes are awaited. Within a head, and in the reserve, the client is idle from that moment on, however many
    /// bytes trickle in: half heads on very many connections must not keep health checks out of the reserve. Between heads it
    /// is idle from here on; the clock is looked at only while places are scarce.
    fn awaits_bytes(&mut self, cx: &Context<'_>) {
        let place = self.activity.at.place();
        if self.activity.awaits_head() {
            let since = *self.head_since.get_or_insert_with(Instant::now);
            place.waits(cx, Some(since));
        } else if place.is_scarce() && !place.is_idle() && !self.activity.waits_for_us() {
            place.waits(cx, Some(Instant::now()));
        }
    }

    fn has_read(&mut self) {
        if self.activity.has_begun_head() {
            self.head_since = None;
        }
    }

    /// Notes the result of a write of `left` bytes.
    fn has_written(
        &mut self,
        cx: &Context<'_>,
        left: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.held = self.held.max(left);
        let is_whole = matches!(written, Poll::Ready(Ok(taken)) if taken == left);
        match &written {
            Poll::Pending => {
                let now = Instant::now();
                let since = *self.still_since.get_or_insert(now);
                self.backlog.set(cx, self.held, since, now)?;
                if self.activity.at.is_in_reserve() {
                    self.activity.at.place().waits(cx, Some(since));
                }
            }
            Poll::Ready(taken) => {
                self.still_since = None;
                if let (Some(streams), Ok(taken)) = (self.activity.streams(), taken) {
                    streams.wrote(*taken);
                }
                if is_whole {
                    self.held = 0;
                    self.backlog.clear();
                }
            }
        }
        let written = self.activity.has_written(written);
        // Hyper reads before it writes, and not once more after it. Acknowledgements of HTTP/2 are no work for the client either.
        if is_whole || self.activity.at.is_in_reserve() {
            self.awaits_bytes(cx);
        }
        written
    }
}

/// The code of a response that the parser of HTTP/1 made by itself, for a head that it cannot read. It has no body, as no
/// response of ours of these codes.
fn own_refusal(response: &[u8]) -> Option<u16> {
    let is_short = response.len() < MAX_OWN && response.starts_with(b"HTTP/1.");
    let code = response.get(9..12).filter(|code| is_short && code.starts_with(b"4"))?;
    let is_empty = memmem::find(response, b"content-length: 0\r\n").is_some();
    is_empty.then(|| std::str::from_utf8(code).ok()?.parse().ok()).flatten()
}

impl AsyncRead for ActiveStream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let taken = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(taken));
            self.has_read();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            self.awaits_bytes(cx);
        }
        ready!(read)?;
        if buf.filled().len() > before {
            self.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ActiveStream<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match own_refusal(buf) {
            Some(code) => self.poll_refusal(cx, buf, code),
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        };
        self.has_written(cx, buf.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [buf] = bufs {
            return self.poll_write(cx, buf);
        }
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
