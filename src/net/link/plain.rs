//! A connection for each request: for peers without sessions, and for requests that must not wait for a session.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::FramedRead;

use super::addresses::Addresses;
use super::pace::{Pace, Place, SETTLES_WITHIN};
use super::{LinkError, LinkLimits};
use crate::net::dial::Dialled;
use crate::net::lines::{LineError, Lines};
use crate::net::transport::Stream;
use crate::stats::Gauge;
use crate::wire::Request;

/// A peer gets this long to close first, after its reply: the end that closes first keeps the port in TIME_WAIT for a
/// minute (RFC 9293, section 3.6), and a client runs out of ports sooner than a server.
const CLOSES_BY_ITSELF: Duration = Duration::from_millis(10);
/// After this time the end of the stream is no longer awaited.
const CLOSES_WITHIN: Duration = Duration::from_millis(500);

/// A limit of connections at once, and of requests that wait for one.
pub(super) struct Connections {
    permits: Semaphore,
    waiting: Gauge,
    pace: Pace,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { permits: Semaphore::new(limit), waiting: Gauge::default(), pace: Pace::new(limit) }
    }

    /// Permission for one more connection; `Busy` when too many requests wait already, or the wait is too long.
    async fn permit(&self, limits: &LinkLimits) -> Result<SemaphorePermit<'_>, LinkError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        if self.waiting.get() >= limits.max_waiting as u64 {
            return Err(LinkError::Busy);
        }
        let _waiting = self.waiting.enter();
        match timeout(limits.max_wait, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(LinkError::Busy),
        }
    }
}

/// Sends a request on a connection of its own, once `connections` permits one. `Busy` when the deadline passes before.
pub(super) async fn ask(
    addresses: &Arc<Addresses>,
    limits: &LinkLimits,
    connections: &Connections,
    request: Request<'_>,
    deadline: Instant,
) -> Result<Bytes, LinkError> {
    let place = async { Ok((connections.permit(limits).await?, connections.pace.place().await)) };
    let (_permit, mut place) = timeout_at(deadline, place).await.unwrap_or(Err(LinkError::Busy))?;
    let dial = addresses.dial_for(limits);
    let result = ask_on(dial, &mut place, request, limits.max_reply, deadline);
    timeout_at(deadline, result).await.unwrap_or(Err(LinkError::Late))
}

/// Sends a request on the connection that `dial` makes; it has this place until the peer has accepted it.
pub(crate) async fn ask_on(
    dial: impl Future<Output = io::Result<Dialled>>,
    place: &mut Place<'_>,
    request: Request<'_>,
    max_reply: usize,
    deadline: Instant,
) -> Result<Bytes, LinkError> {
    let dialled = dial.await.map_err(|error| {
        place.lost();
        LinkError::of_dial(&error)
    })?;
    if dialled.was_silent {
        place.lost();
    }
    let mut stream = dialled.stream;
    let mut reply = pin!(exchange(&mut stream, request, max_reply, deadline));
    let soon = timeout(SETTLES_WITHIN, reply.as_mut()).await;
    place.succeeded();
    match soon {
        Ok(reply) => reply,
        Err(_) => reply.await,
    }
}

/// Writes one line, reads one line, and waits for the end of the stream.
async fn exchange(
    stream: &mut Stream,
    request: Request<'_>,
    max_reply: usize,
    deadline: Instant,
) -> Result<Bytes, LinkError> {
    let mut line = Vec::with_capacity(256);
    request.write(&mut line);
    line.push(b'\n');
    // A peer that turns us away may answer and close before it has read the request: its reply counts.
    let _ = stream.write_all(&line).await;
    let reply = read_line(stream, max_reply).await?;
    if nothing_follows(stream, deadline).await { Ok(reply) } else { Err(LinkError::Garbage) }
}

/// Waits for the end of the stream; false when a byte comes instead. A peer that waits for us to close gets our end of the
/// stream. At most half of the remaining time is spent here, so that a reply that came in time is not late.
async fn nothing_follows(stream: &mut Stream, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let end = async {
        match timeout(CLOSES_BY_ITSELF, stream.read_u8()).await {
            Ok(read) => read,
            Err(_) => {
                stream.shutdown().await?;
                stream.read_u8().await
            }
        }
    };
    !matches!(timeout(CLOSES_WITHIN.min(left / 2), end).await, Ok(Ok(_)))
}

/// Reads exactly one line and gives it without its end. `TooLong` when it is longer than `max`, `NotText` when it is not
/// UTF-8, `Garbage` when more follows it; `Broken` when the stream ends before it does.
pub(super) async fn read_line(stream: &mut Stream, max: usize) -> Result<Bytes, LinkError> {
    let mut reading = FramedRead::with_capacity(stream, Lines::new(max), 4096);
    match reading.next().await {
        Some(Ok(line)) if reading.read_buffer().is_empty() => Ok(line.into()),
        Some(Ok(_)) => Err(LinkError::Garbage),
        Some(Err(LineError::TooLong)) => Err(LinkError::TooLong),
        Some(Err(LineError::NotText)) => Err(LinkError::NotText),
        Some(Err(LineError::Stream(error))) => Err(LinkError::of_read(&error)),
        None | Some(Err(LineError::CutShort)) => Err(LinkError::Broken),
    }
}
