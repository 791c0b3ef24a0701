//! Request lines out of a connection, which holds no buffer while it is idle.
//!
//! [`Lines`] decodes from one buffer per thread. A connection keeps only the bytes left over: a part of a line, or
//! lines for which there is no room yet. `FramedRead` would keep a buffer for each connection, idle or not.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::codec::Decoder;

use super::foreign::is_tls;
use super::lines::{LineError, Lines};

/// The limit of one read in bytes, and about the limit of the bytes that a connection holds back.
const READ: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<BytesMut> = RefCell::default();
}

/// Whether the consumer of lines has room for another one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// There is room.
    More,
    /// The next lines are to be held back.
    Pause,
}

/// The outcome of a read.
#[derive(Debug)]
pub(super) enum Filled {
    /// Bytes; the whole lines among them were handed out.
    Bytes,
    /// The end of the stream, after a whole line.
    End,
    /// Not a line: no byte after it can be trusted.
    Bad(LineError),
    /// The first bytes of a connection of TLS.
    Tls,
}

/// The incoming half of a connection.
pub(super) struct Inbox {
    lines: Lines,
    held: BytesMut,
    /// Whether `held` starts with a whole line.
    paused: bool,
    /// Whether any bytes have come.
    has_begun: bool,
}

impl Inbox {
    /// Lines of at most `max_line` bytes, their end included.
    pub(super) fn new(max_line: usize) -> Self {
        Self { lines: Lines::new(max_line - 1), held: BytesMut::new(), paused: false, has_begun: false }
    }

    /// Whether only a part of a line has arrived.
    pub(super) fn has_part(&self) -> bool {
        !self.paused && !self.held.is_empty()
    }

    /// Whether a whole line is held back.
    pub(super) fn has_line(&self) -> bool {
        self.paused
    }

    /// Whether bytes are held back.
    pub(super) fn has_more(&self) -> bool {
        !self.held.is_empty()
    }

    /// Hands out whole lines, their ends removed: those held back first, then those of one read.
    pub(super) fn poll_lines(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        each: &mut impl FnMut(&str) -> Take,
    ) -> Poll<io::Result<Filled>> {
        if self.paused {
            let mut held = std::mem::take(&mut self.held);
            let filled = self.hand_out(&mut held, each);
            // Lines that wait on stay in place; a part of a line must not keep the buffer of all of them.
            self.held = if self.paused { held } else { BytesMut::from(&held[..]) };
            return Poll::Ready(Ok(filled));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.reserve(self.held.len() + READ);
            // The decoder has searched these bytes and continues after them.
            scratch.extend_from_slice(&self.held);
            if ready!(pin!(stream.read_buf(&mut scratch.limit(READ))).poll(cx))? == 0 {
                return Poll::Ready(Ok(self.end()));
            }
            if !std::mem::replace(&mut self.has_begun, true) && is_tls(scratch) {
                return Poll::Ready(Ok(Filled::Tls));
            }
            let filled = self.hand_out(scratch, each);
            // A copy of just these bytes: an idle connection must not keep the buffer of its busiest moment.
            self.held = BytesMut::from(&scratch[..]);
            Poll::Ready(Ok(filled))
        })
    }

    /// Hands out the whole lines of `bytes` until the consumer pauses.
    fn hand_out(&mut self, bytes: &mut BytesMut, each: &mut impl FnMut(&str) -> Take) -> Filled {
        self.paused = false;
        loop {
            match self.lines.decode(bytes) {
                Ok(Some(line)) => {
                    if each(&line) == Take::Pause {
                        self.paused = memchr(b'\n', bytes).is_some();
                        return Filled::Bytes;
                    }
                }
                Ok(None) => return Filled::Bytes,
                Err(error) => return Filled::Bad(error),
            }
        }
    }

    /// The end of the stream: after a whole line, or within one.
    fn end(&mut self) -> Filled {
        match self.lines.decode_eof(&mut self.held) {
            Ok(_) => Filled::End,
            Err(error) => Filled::Bad(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Feeds the pieces one read at a time; returns the lines and the last outcome.
    async fn lines(pieces: &[&[u8]], max_line: usize) -> (Vec<String>, Filled) {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut inbox = Inbox::new(max_line);
        let mut lines = Vec::new();
        for piece in pieces {
            far.write_all(piece).await.unwrap();
            let mut each = |line: &str| {
                lines.push(line.to_owned());
                Take::More
            };
            let filled = std::future::poll_fn(|cx| inbox.poll_lines(cx, &mut near, &mut each)).await.unwrap();
            if !matches!(filled, Filled::Bytes) {
                return (lines, filled);
            }
        }
        drop(far);
        let filled =
            std::future::poll_fn(|cx| inbox.poll_lines(cx, &mut near, &mut |_| Take::More)).await.unwrap();
        (lines, filled)
    }

    #[tokio::test]
    async fn joins_parts_and_refuses_the_tail() {
        let (got, end) = lines(&[b"GET a", b"/1\r\nGET b/2\nGET", b" c/3", b"\nGET d/4"], 64).await;
        assert_eq!(got, ["GET a/1", "GET b/2", "GET c/3"]);
        assert!(matches!(end, Filled::Bad(LineError::CutShort)), "{end:?}");
    }

    #[tokio::test]
    async fn bounds_a_line_its_end_included() {
        let (got, end) = lines(&[b"1234567\n"], 8).await;
        assert!(got == ["1234567"] && matches!(end, Filled::End), "{got:?} {end:?}");
        for pieces in [&[&b"12345678\n"[..]][..], &[b"1234", b"5678"], &[b"1234", b"5678\n"]] {
            let (got, end) = lines(pieces, 8).await;
            assert!(got.is_empty() && matches!(end, Filled::Bad(LineError::TooLong)), "{got:?} {end:?}");
        }
        let (got, end) = lines(&[b"a\n12345678"], 8).await;
        assert!(got == ["a"] && matches!(end, Filled::Bad(LineError::TooLong)), "{got:?} {end:?}");
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut inbox = Inbox::new(64);
        far.write_all(&b"GET a/1\n".repeat(1000)).await.unwrap();
        for take in [Take::Pause, Take::More] {
            std::future::poll_fn(|cx| inbox.poll_lines(cx, &mut near, &mut |_| take)).await.unwrap();
        }
        assert!(!inbox.has_more() && inbox.held.capacity() == 0, "{}", inbox.held.capacity());
    }

    #[tokio::test]
    async fn holds_back_lines_while_there_is_no_room() {
        let (mut far, mut near) = tokio::io::duplex(1 << 20);
        let mut inbox = Inbox::new(64);
        far.write_all(b"a\nb\nc\nd").await.unwrap();
        let mut seen = Vec::new();
        for expected in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
            let mut each = |line: &str| {
                seen.push(line.to_owned());
                Take::Pause
            };
            std::future::poll_fn(|cx| inbox.poll_lines(cx, &mut near, &mut each)).await.unwrap();
            assert_eq!(seen, expected);
        }
        assert!(inbox.has_part());
    }
}
