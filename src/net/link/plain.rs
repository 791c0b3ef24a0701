//! One request, one connection: for peers that have no sessions.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::FramedRead;

use super::{LinkError, LinkLimits, Peer};
use crate::net::lines::{LineError, Lines};
use crate::net::transport::{self, Stream};
use crate::stats::Gauge;
use crate::wire::Request;

/// A peer closes behind its reply. Who closes first keeps the port for a minute, so it is not us if that can be.
const CLOSES_BY_ITSELF: Duration = Duration::from_millis(10);
/// From one that has not after this time nothing more is expected.
const CLOSES_WITHIN: Duration = Duration::from_millis(500);

/// Places for connections of one request each, and those who wait for one.
pub(super) struct Room {
    places: Semaphore,
    waiting: Gauge,
}

impl Room {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), waiting: Gauge::default() }
    }

    /// A place, as soon as there is one; `Busy` when too many wait, or it takes too long.
    async fn enter(&self, limits: &LinkLimits) -> Result<SemaphorePermit<'_>, LinkError> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        if self.waiting.get() >= limits.max_waiting as u64 {
            return Err(LinkError::Busy);
        }
        let _waiting = self.waiting.enter();
        match timeout(limits.max_wait, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(LinkError::Busy),
        }
    }
}

/// Asks on a connection of its own, as soon as there is room for one.
pub(super) async fn ask(
    peer: &Peer,
    limits: &LinkLimits,
    room: &Room,
    request: Request<'_>,
    deadline: Instant,
) -> Result<Bytes, LinkError> {
    let asked = async {
        let _place = room.enter(limits).await?;
        let stream = transport::dial(&peer.host, peer.port, limits.connect_deadline).await;
        let mut stream = stream.map_err(|error| LinkError::of_dial(&error))?;
        exchange(&mut stream, request, limits.max_reply, deadline).await
    };
    timeout_at(deadline, asked).await.unwrap_or(Err(LinkError::Late))
}

/// One line there, one line back, and the end of the stream.
pub(crate) async fn exchange(
    stream: &mut Stream,
    request: Request<'_>,
    max_reply: usize,
    deadline: Instant,
) -> Result<Bytes, LinkError> {
    let mut line = Vec::with_capacity(256);
    request.write(&mut line);
    line.push(b'\n');
    // A peer that turns us away may close before it has read: its words still count, and without any it is broken.
    let _ = stream.write_all(&line).await;
    let reply = read_line(stream, max_reply).await?;
    if is_all(stream, deadline).await { Ok(reply) } else { Err(LinkError::Garbage) }
}

/// Whether nothing follows: the end of the stream is on its way already, right behind the reply. A peer that leaves the
/// closing to us is told that we have no more to say. A reply that came in time is not made late by waiting for the end.
async fn is_all(stream: &mut Stream, deadline: Instant) -> bool {
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

/// Reads exactly one line and gives it without its end. `Garbage` when it is longer than `max`, is not UTF-8, or more
/// follows it; `Broken` when the stream ends before it does.
pub(super) async fn read_line(stream: &mut Stream, max: usize) -> Result<Bytes, LinkError> {
    let mut reading = FramedRead::with_capacity(stream, Lines::new(max), 4096);
    match reading.next().await {
        Some(Ok(line)) if reading.read_buffer().is_empty() => Ok(line.into()),
        Some(Ok(_) | Err(LineError::TooLong | LineError::NotText)) => Err(LinkError::Garbage),
        None | Some(Err(LineError::CutShort | LineError::Stream(_))) => Err(LinkError::Broken),
    }
}
