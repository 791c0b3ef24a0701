//! The read buffer of a session: whole lines leave it as slices of the chunk that they were read into, without a copy.
//!
//! Replies on sessions keep this framing of their own: `LinesCodec`, which frames all other lines, copies each into a
//! `String`, and a large document is passed on at the speed of its copies.
//!
//! A chunk is reused once all slices of it are dropped. Left to the allocator, a large block goes back to the system when
//! it is freed, and the next one costs a page fault for each of its pages: a fifth of a balancer's speed.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use memchr::{memchr, memrchr};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Duration, Instant};

/// The size of the smallest chunk.
const SMALLEST: usize = 64 * 1024;
/// The most bytes of one read: they are still in the core's cache when the end of a line is searched in them.
const ONCE: usize = 256 * 1024;
/// A chunk has room for this many long lines: with 1, part of nearly every line would have to be moved to the next chunk; more
/// would not stay in the core's cache.
const LINES: usize = 2;
/// A chunk above this size has room for one line and a little of the next: half of one for two would be held for nothing
/// while its client does not read.
const LARGE: usize = 1024 * 1024;
/// The most bytes in chunks that a thread keeps for reuse; or [`FEW`] of the largest among them, if those are more.
const SPARE: usize = 4 * 1024 * 1024;
const FEW: usize = 4;
/// A chunk above [`LARGE`] that was not used for this time is let go by the next one that is kept.
const UNUSED: Duration = Duration::from_secs(1);
/// Lines with fewer bytes than this in all are copied: one short reply must not keep a whole chunk in use.
const COPY_BELOW: usize = 4 * 1024;

/// The chunks that a thread keeps for reuse.
#[derive(Default)]
struct Spares {
    /// Each with the time since when it is not used.
    chunks: Vec<(Vec<u8>, Instant)>,
    bytes: usize,
}

thread_local! {
    static SPARES: RefCell<Spares> = RefCell::default();
}

impl Spares {
    fn take(&mut self, room: usize) -> Option<Vec<u8>> {
        let fits = |(chunk, _): &(Vec<u8>, _)| (room..=room * LINES).contains(&chunk.len());
        let at = self.chunks.iter().rposition(fits)?;
        let (chunk, _) = self.chunks.remove(at);
        self.bytes -= chunk.len();
        Some(chunk)
    }

    fn keep(&mut self, chunk: Vec<u8>, now: Instant) {
        self.bytes += chunk.len();
        self.chunks.push((chunk, now));
        let largest = self.chunks.iter().map(|(chunk, _)| chunk.len()).max().unwrap_or_default();
        let (bytes, most) = (&mut self.bytes, SPARE.max(FEW * largest));
        // The one that was not used for longest is in front.
        self.chunks.retain(|(chunk, since)| {
            let is_unused = chunk.len() > LARGE && now.saturating_duration_since(*since) >= UNUSED;
            let is_kept = *bytes <= most && !is_unused;
            *bytes -= if is_kept { 0 } else { chunk.len() };
            is_kept
        });
    }
}

fn chunk(room: usize) -> Vec<u8> {
    SPARES.with_borrow_mut(|spares| spares.take(room)).unwrap_or_else(|| vec![0; room])
}

fn give_back(chunk: Vec<u8>) {
    // Fails while the thread ends: its spares are gone already.
    let _ = SPARES.try_with(|spares| spares.borrow_mut().keep(chunk, Instant::now()));
}

/// The owner of a chunk whose lines were handed out. Dropped with the last slice of them.
struct HandedOut(Vec<u8>);

impl AsRef<[u8]> for HandedOut {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for HandedOut {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

/// Bytes that were read and not handed out yet.
pub(super) struct Reading {
    /// Without bytes to hold it is empty: an idle session keeps no chunk.
    chunk: Vec<u8>,
    filled: usize,
    /// The first bytes, known to contain no line end.
    scanned: usize,
    /// The approximate length of recent lines.
    line_length: usize,
    /// The size of a chunk that the longest line fits into.
    largest: usize,
}

impl Reading {
    /// For lines of at most `max_line` bytes; the caller drops the part of one that is longer.
    pub(super) fn new(max_line: usize) -> Self {
        Self { chunk: Vec::new(), filled: 0, scanned: 0, line_length: 0, largest: max_line + SMALLEST }
    }

    /// The size of the next chunk.
    fn room(&self) -> usize {
        match (self.line_length * LINES).next_power_of_two() {
            lines if lines <= LARGE => lines.max(SMALLEST),
            _ => (self.line_length + SMALLEST).next_multiple_of(SMALLEST),
        }
    }

    /// Reads once; 0 at the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        if self.chunk.is_empty() {
            self.chunk = chunk(self.room());
        } else if self.filled == self.chunk.len() {
            // A line is longer than the chunk. Later chunks will be larger from the start.
            self.line_length = self.filled;
            let mut larger = chunk((self.filled * 2).min(self.largest.max(self.filled + SMALLEST)));
            larger[..self.filled].copy_from_slice(&self.chunk);
            give_back(std::mem::replace(&mut self.chunk, larger));
        }
        let end = self.chunk.len().min(self.filled + ONCE);
        let mut room = ReadBuf::new(&mut self.chunk[self.filled..end]);
        let read = Pin::new(stream).poll_read(cx, &mut room);
        let n = room.filled().len();
        self.filled += n;
        self.release_empty();
        ready!(read)?;
        Poll::Ready(Ok(n))
    }

    /// All whole lines that were read, with their line ends; and the offset of the first end, so that a long line is not
    /// searched again.
    pub(super) fn take_lines(&mut self) -> Option<(Bytes, usize)> {
        let Some(first) = memchr(b'\n', &self.chunk[self.scanned..self.filled]) else {
            self.scanned = self.filled;
            return None;
        };
        let first = self.scanned + first;
        let end = first + memrchr(b'\n', &self.chunk[first..self.filled]).unwrap_or_default() + 1;
        let part = self.filled - end;
        // The rest is a part of a line, so a line is at least as long. The estimate falls slowly: a health check between long
        // replies must not make the next chunk too small.
        self.line_length = first.max(part).max(self.line_length - self.line_length / 64);
        let lines = if end < COPY_BELOW.max(self.chunk.len() / 16) {
            let lines = Bytes::copy_from_slice(&self.chunk[..end]);
            self.chunk.copy_within(end..self.filled, 0);
            lines
        } else {
            let mut next = if part > 0 { chunk(self.room().max(part)) } else { Vec::new() };
            next[..part].copy_from_slice(&self.chunk[end..self.filled]);
            Bytes::from_owner(HandedOut(std::mem::replace(&mut self.chunk, next))).slice(..end)
        };
        (self.filled, self.scanned) = (part, part);
        self.release_empty();
        Some((lines, first))
    }

    /// After [`Reading::take_lines`]: the beginning of the line whose end has not come.
    pub(super) fn part(&self) -> &[u8] {
        &self.chunk[..self.filled]
    }

    /// Drops the bytes of [`Reading::part`].
    pub(super) fn forget(&mut self) {
        (self.filled, self.scanned) = (0, 0);
        self.release_empty();
    }

    /// Gives the chunk back when no byte in it is needed.
    fn release_empty(&mut self) {
        if self.filled == 0 && !self.chunk.is_empty() {
            give_back(std::mem::take(&mut self.chunk));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn fill(reading: &mut Reading, stream: &mut tokio::io::DuplexStream) -> usize {
        std::future::poll_fn(|cx| reading.poll_fill(cx, stream)).await.unwrap()
    }

    #[tokio::test]
    async fn hands_out_whole_lines_and_joins_their_parts() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut reading = Reading::new(1 << 20);
        far.write_all(b"1 a\n2 b").await.unwrap();
        fill(&mut reading, &mut near).await;
        assert_eq!(reading.take_lines(), Some((Bytes::from_static(b"1 a\n"), 3)));
        assert_eq!(reading.part(), b"2 b");
        far.write_all(b"b\n").await.unwrap();
        fill(&mut reading, &mut near).await;
        assert_eq!(reading.take_lines(), Some((Bytes::from_static(b"2 bb\n"), 4)));
        assert!(reading.take_lines().is_none() && reading.part().is_empty());
        assert!(reading.chunk.is_empty(), "an idle session keeps no chunk");
        drop(far);
        assert_eq!(fill(&mut reading, &mut near).await, 0);
    }

    #[tokio::test]
    async fn a_chunk_is_not_reused_while_its_lines_are_held() {
        let (mut far, mut near) = tokio::io::duplex(1 << 22);
        let mut reading = Reading::new(1 << 20);
        let mut held = Vec::new();
        let line = |number: usize| format!("{number} {}\n", "x".repeat(number * 37 % 9_000));
        let all: String = (0..400).map(line).collect();
        far.write_all(all.as_bytes()).await.unwrap();
        drop(far);
        while fill(&mut reading, &mut near).await > 0 {
            held.extend(reading.take_lines().map(|(lines, _)| lines));
        }
        assert!(reading.part().is_empty());
        assert_eq!(held.concat(), all.into_bytes());
        drop(held);
        let kept = SPARES.with_borrow(|spares| spares.bytes);
        assert!((SMALLEST..=SPARE).contains(&kept), "{kept}");
    }

    #[tokio::test]
    async fn a_line_may_be_longer_than_a_chunk() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut reading = Reading::new(1 << 20);
        let line = "y".repeat(3 * SMALLEST) + "\n";
        far.write_all(line.as_bytes()).await.unwrap();
        far.write_all(b"z").await.unwrap();
        drop(far);
        let mut lines = Vec::new();
        while fill(&mut reading, &mut near).await > 0 {
            lines.extend(reading.take_lines().map(|(lines, _)| lines));
        }
        assert!(lines == [line.as_bytes()]);
        assert_eq!(reading.part(), b"z");
    }

    #[tokio::test]
    async fn long_lines_of_one_length_go_through_the_same_chunks() {
        for length in [600 * 1024, 1 << 20, (1 << 20) + 100, 3 << 20] {
            let (mut far, mut near) = tokio::io::duplex(200 * 1024);
            let mut reading = Reading::new(4 << 20);
            let line = "y".repeat(length - 1) + "\n";
            let writer = tokio::spawn(async move {
                for _ in 0..20 {
                    far.write_all(line.as_bytes()).await.unwrap();
                }
            });
            let (mut held, mut sizes, mut places) = (Vec::new(), Vec::new(), Vec::new());
            while fill(&mut reading, &mut near).await > 0 {
                let Some((lines, first)) = reading.take_lines() else { continue };
                assert_eq!((lines.len(), first), (length, length - 1));
                places.push(lines.as_ptr());
                sizes.push(reading.room());
                // A client that is slow by one reply.
                held.push(lines);
                held.drain(..held.len() - 1);
            }
            writer.await.unwrap();
            assert!(sizes.iter().all(|size| *size <= length + 2 * SMALLEST), "{sizes:?}");
            let mut settled = places.split_off(5);
            settled.sort_unstable();
            settled.dedup();
            assert!(settled.len() <= 3, "{} chunks for lines of {length} B", settled.len());
        }
    }

    #[test]
    fn spares_are_bounded_and_large_ones_are_let_go_when_they_are_not_used() {
        let (mut spares, now) = (Spares::default(), Instant::now());
        (0..100).for_each(|_| spares.keep(vec![0; SMALLEST], now));
        assert_eq!(spares.bytes, SPARE);
        let mut spares = Spares::default();
        (0..10).for_each(|_| spares.keep(vec![0; SPARE], now));
        assert_eq!(spares.bytes, FEW * SPARE);
        spares.keep(vec![0; SMALLEST], now);
        assert!(spares.take(SMALLEST).is_some(), "the oldest makes room");
        spares.keep(vec![0; SMALLEST], now + UNUSED);
        assert_eq!((spares.bytes, spares.chunks.len()), (SMALLEST, 1));
        assert!(spares.take(SPARE).is_none() && spares.take(SMALLEST).is_some());
        assert_eq!(spares.bytes, 0);
    }
}
