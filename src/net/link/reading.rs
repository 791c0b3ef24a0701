//! What a session has read: whole lines leave as slices of the chunk that they were read into, without a copy.
//!
//! Replies on sessions keep this framing of their own: `LinesCodec`, which frames all other lines, copies each into a
//! `String`, and a large document is passed on at the speed of its copies.
//!
//! A chunk is used again once the last of its lines is forgotten. The allocator gives large blocks back to the system at
//! once, and a block that comes anew for every read costs a fault for each of its pages: a fifth of a balancer's speed.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use memchr::memrchr;
use tokio::io::{AsyncRead, ReadBuf};

/// Room for one read, where lines are short.
const CHUNK: usize = 64 * 1024;
/// And where they are long: two lines, so that few are left over at its end to be moved, and it stays in the core's cache.
const LINES: usize = 2;
/// A chunk that grew beyond this goes back to the system.
const LARGEST: usize = 1024 * 1024;
/// Bytes in chunks that a thread keeps for later.
const SPARE: usize = 4 * 1024 * 1024;
/// Lines that are shorter than this together are copied: a lone reply must not hold a whole chunk.
const COPY_BELOW: usize = 4 * 1024;

/// The chunks of a thread that nobody uses.
#[derive(Default)]
struct Spares {
    chunks: Vec<Vec<u8>>,
    bytes: usize,
}

thread_local! {
    static SPARES: RefCell<Spares> = RefCell::default();
}

impl Spares {
    fn take(&mut self, room: usize) -> Option<Vec<u8>> {
        let at = self.chunks.iter().rposition(|chunk| (room..=room * LINES).contains(&chunk.len()))?;
        let chunk = self.chunks.swap_remove(at);
        self.bytes -= chunk.len();
        Some(chunk)
    }

    fn keep(&mut self, chunk: Vec<u8>) {
        if chunk.len() <= LARGEST && self.bytes + chunk.len() <= SPARE {
            self.bytes += chunk.len();
            self.chunks.push(chunk);
        }
    }
}

fn chunk(room: usize) -> Vec<u8> {
    SPARES.with_borrow_mut(|spares| spares.take(room)).unwrap_or_else(|| vec![0; room])
}

fn give_back(chunk: Vec<u8>) {
    // At the end of a thread there is nowhere to keep it.
    let _ = SPARES.try_with(|spares| spares.borrow_mut().keep(chunk));
}

/// A chunk whose lines have been handed out.
struct Shared(Vec<u8>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

/// Bytes that came and were not handed out.
#[derive(Default)]
pub(super) struct Reading {
    /// Empty while there is nothing: an idle session keeps no chunk.
    chunk: Vec<u8>,
    filled: usize,
    /// How much is known to hold no line end.
    scanned: usize,
    /// Lines have been about so long of late.
    long: usize,
}

impl Reading {
    /// How large the next chunk is to be.
    fn room(&self) -> usize {
        (self.long * LINES).next_power_of_two().clamp(CHUNK, LARGEST)
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
            // A line that is longer than the chunk: the next chunks are larger from the start.
            self.long = self.filled;
            let mut larger = chunk(self.filled * 2);
            larger[..self.filled].copy_from_slice(&self.chunk);
            give_back(std::mem::replace(&mut self.chunk, larger));
        }
        let mut room = ReadBuf::new(&mut self.chunk[self.filled..]);
        let read = Pin::new(stream).poll_read(cx, &mut room);
        let n = room.filled().len();
        self.filled += n;
        self.rest();
        ready!(read)?;
        Poll::Ready(Ok(n))
    }

    /// All whole lines that have come, their ends included.
    pub(super) fn take_lines(&mut self) -> Option<Bytes> {
        let Some(end) = memrchr(b'\n', &self.chunk[self.scanned..self.filled]) else {
            self.scanned = self.filled;
            return None;
        };
        let end = self.scanned + end + 1;
        let part = self.filled - end;
        // What is left over is a part of a line, so lines are at least as long.
        self.long = part.max(self.long - self.long / 8);
        let lines = if end < COPY_BELOW.max(self.chunk.len() / 16) {
            let lines = Bytes::copy_from_slice(&self.chunk[..end]);
            self.chunk.copy_within(end..self.filled, 0);
            lines
        } else {
            let mut next = if part > 0 { chunk(self.room().max(part)) } else { Vec::new() };
            next[..part].copy_from_slice(&self.chunk[end..self.filled]);
            Bytes::from_owner(Shared(std::mem::replace(&mut self.chunk, next))).slice(..end)
        };
        (self.filled, self.scanned) = (part, part);
        self.rest();
        Some(lines)
    }

    /// The beginning of a line that is not whole. Only after [`Reading::take_lines`] is it nothing but that.
    pub(super) fn part(&self) -> &[u8] {
        &self.chunk[..self.filled]
    }

    /// Passes over what has come.
    pub(super) fn forget(&mut self) {
        (self.filled, self.scanned) = (0, 0);
        self.rest();
    }

    fn rest(&mut self) {
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
    async fn lines_leave_whole_and_parts_are_joined() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut reading = Reading::default();
        far.write_all(b"1 a\n2 b").await.unwrap();
        fill(&mut reading, &mut near).await;
        assert_eq!(reading.take_lines().as_deref(), Some(&b"1 a\n"[..]));
        assert_eq!(reading.part(), b"2 b");
        far.write_all(b"b\n").await.unwrap();
        fill(&mut reading, &mut near).await;
        assert_eq!(reading.take_lines().as_deref(), Some(&b"2 bb\n"[..]));
        assert!(reading.take_lines().is_none() && reading.part().is_empty());
        assert!(reading.chunk.is_empty(), "an idle session keeps nothing");
        drop(far);
        assert_eq!(fill(&mut reading, &mut near).await, 0);
    }

    #[tokio::test]
    async fn what_was_handed_out_is_not_written_over() {
        let (mut far, mut near) = tokio::io::duplex(1 << 22);
        let mut reading = Reading::default();
        let mut held = Vec::new();
        let line = |number: usize| format!("{number} {}\n", "x".repeat(number * 37 % 9_000));
        let all: String = (0..400).map(line).collect();
        far.write_all(all.as_bytes()).await.unwrap();
        drop(far);
        while fill(&mut reading, &mut near).await > 0 {
            held.extend(reading.take_lines());
        }
        assert!(reading.part().is_empty());
        assert_eq!(held.concat(), all.into_bytes());
        drop(held);
        let kept = SPARES.with_borrow(|spares| spares.bytes);
        assert!((CHUNK..=SPARE).contains(&kept), "{kept}");
    }

    #[tokio::test]
    async fn a_line_may_be_longer_than_a_chunk() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut reading = Reading::default();
        let line = "y".repeat(3 * CHUNK) + "\n";
        far.write_all(line.as_bytes()).await.unwrap();
        far.write_all(b"z").await.unwrap();
        drop(far);
        let mut lines = Vec::new();
        while fill(&mut reading, &mut near).await > 0 {
            lines.extend(reading.take_lines());
        }
        assert!(lines == [line.as_bytes()]);
        assert_eq!(reading.part(), b"z");
    }
}
