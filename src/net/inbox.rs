//! Bounded lines out of a stream.
//!
//! `tokio_util`'s `LinesCodec` hands out an unterminated tail as a line, goes on after a line that is too long, and makes
//! a `String` of each. This reads into one buffer per thread, hands out slices of it, and keeps only what a connection
//! really holds back: a part of a line, or lines that there is no room for yet. An idle connection keeps nothing.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::{AsyncRead, ReadBuf};

/// What one read takes at the most, and so what a connection holds back at the most.
const READ: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// What the taker of a line says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// More lines are welcome.
    More,
    /// Hold the others back.
    Pause,
}

/// What a read brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filled {
    /// Bytes; whole lines among them were handed out.
    Bytes,
    /// The end of the stream.
    End,
    /// A line longer than the bound: nothing after it can be trusted.
    TooLong,
}

/// The incoming half of a connection.
pub(super) struct Inbox {
    held: Vec<u8>,
    /// Whether `held` begins with a whole line.
    paused: bool,
    max_line: usize,
}

impl Inbox {
    /// Lines of at most `max_line` bytes, their end included.
    pub(super) fn new(max_line: usize) -> Self {
        Self { held: Vec::new(), paused: false, max_line }
    }

    /// Whether a line has begun that is not whole yet.
    pub(super) fn has_part(&self) -> bool {
        !self.paused && !self.held.is_empty()
    }

    /// Whether a whole line is held back.
    pub(super) fn has_line(&self) -> bool {
        self.paused
    }

    /// Whether bytes are left over after what was handed out.
    pub(super) fn has_more(&self) -> bool {
        !self.held.is_empty()
    }

    /// Hands out whole lines, their ends removed: those held back first, then those of one read.
    pub(super) fn poll_lines(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        each: &mut impl FnMut(&[u8]) -> Take,
    ) -> Poll<io::Result<Filled>> {
        if self.paused {
            let held = std::mem::take(&mut self.held);
            return Poll::Ready(Ok(self.hand_out(&held, each)));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            Poll::Ready(Ok(if bytes.is_empty() { Filled::End } else { self.take(bytes, each) }))
        })
    }

    /// Takes what was read, behind the part of a line that is held.
    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8]) -> Take) -> Filled {
        if self.held.is_empty() {
            return self.hand_out(bytes, each);
        }
        let Some(end) = memchr(b'\n', bytes) else {
            self.held.extend_from_slice(bytes);
            return if self.held.len() >= self.max_line { Filled::TooLong } else { Filled::Bytes };
        };
        let mut line = std::mem::take(&mut self.held);
        line.extend_from_slice(&bytes[..end]);
        if line.len() >= self.max_line {
            return Filled::TooLong;
        }
        let rest = &bytes[end + 1..];
        match each(without_cr(&line)) {
            Take::More => self.hand_out(rest, each),
            Take::Pause => {
                self.hold(rest);
                Filled::Bytes
            }
        }
    }

    /// Hands out the whole lines of `bytes`, which begin at a line's start, and holds the rest.
    fn hand_out(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8]) -> Take) -> Filled {
        while let Some(end) = memchr(b'\n', bytes) {
            if end >= self.max_line {
                return Filled::TooLong;
            }
            let line = without_cr(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if each(line) == Take::Pause {
                self.hold(bytes);
                return Filled::Bytes;
            }
        }
        self.hold(bytes);
        if bytes.len() >= self.max_line { Filled::TooLong } else { Filled::Bytes }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.paused = memchr(b'\n', bytes).is_some();
        // A fresh vector, not a cleared one: an idle connection must not keep the room of its busiest moment.
        self.held = bytes.to_vec();
    }
}

/// A line may end in CR LF.
pub(super) fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Feeds the pieces one read at a time, and gives the lines that come out and how it ended.
    async fn lines(pieces: &[&[u8]], max_line: usize) -> (Vec<String>, Filled) {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut inbox = Inbox::new(max_line);
        let mut lines = Vec::new();
        for piece in pieces {
            far.write_all(piece).await.unwrap();
            let mut each = |line: &[u8]| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                Take::More
            };
            let filled = std::future::poll_fn(|cx| inbox.poll_lines(cx, &mut near, &mut each)).await.unwrap();
            if filled != Filled::Bytes {
                return (lines, filled);
            }
        }
        drop(far);
        let filled =
            std::future::poll_fn(|cx| inbox.poll_lines(cx, &mut near, &mut |_| Take::More)).await.unwrap();
        (lines, filled)
    }

    #[tokio::test]
    async fn joins_parts_and_drops_the_tail() {
        let got = lines(&[b"GET a", b"/1\r\nGET b/2\nGET", b" c/3", b"\nGET d/4"], 64).await;
        assert_eq!(got, (vec!["GET a/1".into(), "GET b/2".into(), "GET c/3".into()], Filled::End));
    }

    #[tokio::test]
    async fn bounds_a_line_its_end_included() {
        assert_eq!(lines(&[b"1234567\n"], 8).await, (vec!["1234567".into()], Filled::End));
        assert_eq!(lines(&[b"12345678\n"], 8).await, (vec![], Filled::TooLong));
        assert_eq!(lines(&[b"1234", b"5678"], 8).await, (vec![], Filled::TooLong));
        assert_eq!(lines(&[b"1234", b"5678\n"], 8).await, (vec![], Filled::TooLong));
        assert_eq!(lines(&[b"a\n12345678"], 8).await, (vec!["a".into()], Filled::TooLong));
    }

    #[tokio::test]
    async fn holds_back_what_there_is_no_room_for() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut inbox = Inbox::new(64);
        far.write_all(b"a\nb\nc\nd").await.unwrap();
        let mut seen = Vec::new();
        for expected in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
            let mut each = |line: &[u8]| {
                seen.push(String::from_utf8_lossy(line).into_owned());
                Take::Pause
            };
            std::future::poll_fn(|cx| inbox.poll_lines(cx, &mut near, &mut each)).await.unwrap();
            assert_eq!(seen, expected);
        }
        assert!(inbox.has_part());
    }
}
