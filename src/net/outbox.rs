//! Replies on their way into a stream: all that are ready leave in one write.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::wire::{Document, Frame};

/// A document or line of this size or more is shared with the cache or the link; copying a smaller one costs less than one
/// more piece in the write.
const SHARE_FROM: usize = 4 * 1024;
/// An unwritten line below this size is copied: it must not keep the block that it was read into, which may be as large as
/// the longest line.
const SETTLE_BELOW: usize = 768 * 1024;
/// The limit of pieces in one write.
const PIECES: usize = 64;
/// The limit of bytes of a buffer that is kept for the next connection.
const KEEP: usize = 1024 * 1024;

thread_local! {
    /// One buffer for all connections of this thread: it is hot in the core's cache, and idle connections hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of a reply.
struct Piece {
    bytes: Bytes,
    /// Whether they keep no larger block alive.
    is_exact: bool,
}

/// The outgoing half of a connection.
#[derive(Default)]
pub(super) struct Outbox {
    /// Pieces in front of `open`.
    closed: VecDeque<Piece>,
    /// The copies of small pieces, one after another.
    open: Vec<u8>,
    /// The number of pieces, from the first on, that are exact.
    settled: usize,
    /// Bytes of the first piece that are written.
    sent: usize,
    /// Bytes that are not written.
    len: usize,
}

impl Outbox {
    /// Bytes that are not written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn share(&mut self, bytes: Bytes, is_exact: bool) {
        self.len += bytes.len();
        if !self.open.is_empty() {
            let open = std::mem::take(&mut self.open).into();
            self.closed.push_back(Piece { bytes: open, is_exact: true });
        }
        self.closed.push_back(Piece { bytes, is_exact });
    }

    /// Prepares unwritten pieces for a long wait. Returns the bytes of memory that they hold: a piece written in part counts
    /// as a whole.
    pub(super) fn settle(&mut self) -> usize {
        for piece in self.closed.iter_mut().skip(self.settled) {
            if !piece.is_exact && piece.bytes.len() < SETTLE_BELOW {
                piece.bytes = Bytes::copy_from_slice(&piece.bytes);
            }
        }
        self.settled = self.closed.len();
        self.len + self.sent
    }

    /// Writes until the box is empty or the stream accepts no more. Returns the bytes written.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        while !self.is_empty() {
            let result = self.poll_once(cx, stream);
            let n = match result {
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if written > 0 => return Poll::Ready(Ok(written)),
                Poll::Pending => return Poll::Pending,
            };
            written += n;
            self.advance(n);
        }
        self.give_back();
        Poll::Ready(Ok(written))
    }

    fn poll_once(
        &self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        let n = if self.closed.is_empty() {
            ready!(stream.poll_write(cx, &self.open[self.sent..]))?
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            let pieces =
                self.closed.iter().map(|piece| &piece.bytes[..]).chain(std::iter::once(&self.open[..]));
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(if count == 0 { &piece[self.sent..] } else { piece });
                count += 1;
            }
            ready!(stream.poll_write_vectored(cx, &slices[..count]))?
        };
        if n == 0 { Poll::Ready(Err(io::ErrorKind::WriteZero.into())) } else { Poll::Ready(Ok(n)) }
    }

    fn advance(&mut self, n: usize) {
        self.len -= n;
        self.sent += n;
        while let Some(first) = self.closed.front() {
            if self.sent < first.bytes.len() {
                return;
            }
            self.sent -= first.bytes.len();
            self.closed.pop_front();
            self.settled = self.settled.saturating_sub(1);
        }
        // For a client that is always behind, the written bytes must not pile up in front of the unwritten ones.
        if self.sent < self.open.len() && self.sent > self.open.len() / 2 {
            self.open.drain(..std::mem::take(&mut self.sent));
        }
    }

    /// Leaves the buffer to the next connection that writes.
    fn give_back(&mut self) {
        self.sent = 0;
        self.closed = VecDeque::new();
        let mut open = std::mem::take(&mut self.open);
        if open.capacity() <= KEEP && open.capacity() > 0 {
            open.clear();
            SPARE.set(open);
        }
    }
}

impl Frame for Outbox {
    // Most pieces are a few bytes of known length: inlined, their copy is a store and not a call.
    #[inline]
    fn small(&mut self, bytes: &[u8]) {
        if self.open.capacity() == 0 {
            self.open = SPARE.take();
        }
        self.len += bytes.len();
        self.open.extend_from_slice(bytes);
    }

    fn document(&mut self, document: &Document) {
        match document.len() < SHARE_FROM {
            true => self.small(document.as_ref()),
            false => self.share(Bytes::from_owner(document.clone()), true),
        }
    }

    fn line(&mut self, line: &Bytes) {
        match line.len() < SHARE_FROM {
            true => self.small(line),
            false => self.share(line.clone(), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn keeps_the_order_of_small_and_shared_pieces() {
        // A pipe of 5 bytes: every write is cut short, within pieces and between them.
        let (mut near, mut far) = tokio::io::duplex(5);
        let mut outbox = Outbox::default();
        let long = |letter: &str| Bytes::from(letter.repeat(SHARE_FROM));
        let mut expected = Vec::new();
        for piece in [long("a"), Bytes::from("b"), long("c"), long("d"), Bytes::from("e"), Bytes::from("f")] {
            outbox.line(&piece);
            expected.extend_from_slice(&piece);
        }
        assert_eq!(outbox.len(), expected.len());
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        while !outbox.is_empty() {
            poll_fn(|cx| outbox.poll_write(cx, &mut near)).await.unwrap();
        }
        drop(near);
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn written_bytes_take_no_memory_though_the_box_is_never_empty() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let mut outbox = Outbox::default();
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for turn in 0..2_000_u32 {
            let line = format!("{turn:08}").repeat(128);
            outbox.small(line.as_bytes());
            said.extend_from_slice(line.as_bytes());
            if outbox.len() > 16 * 1024 {
                poll_fn(|cx| outbox.poll_write(cx, &mut near)).await.unwrap();
                assert!(!outbox.is_empty());
                far.read_buf(&mut heard).await.unwrap();
            }
        }
        assert!(outbox.open.capacity() < 256 * 1024, "{}", outbox.open.capacity());
        let last = outbox.len();
        assert!(said.starts_with(&heard) && heard.len() + last <= said.len());
    }

    #[test]
    fn an_unread_line_keeps_no_block_alive_and_a_document_is_not_copied() {
        let block = Bytes::from(vec![b'x'; 1 << 20]);
        let text = format!("\"{}\"", "y".repeat(SHARE_FROM));
        let document = Document::parse(text.as_bytes(), 1 << 20).unwrap();
        let mut outbox = Outbox::default();
        outbox.line(&block.slice(..100 * 1024));
        outbox.line(&block.slice(..SETTLE_BELOW));
        outbox.document(&document);
        assert_eq!(outbox.settle(), outbox.len());
        let kept: Vec<*const u8> = outbox.closed.iter().map(|piece| piece.bytes.as_ptr()).collect();
        assert_ne!(kept[0], block.as_ptr(), "a tenth of its block");
        assert_eq!(kept[1..], [block.as_ptr(), document.as_str().as_ptr()]);
    }

    /// Accepts all bytes, and counts the writes.
    struct Counting(usize);

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0 += 1;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn all_replies_that_are_ready_leave_in_one_write() {
        let (mut outbox, mut stream) = (Outbox::default(), Counting(0));
        for _ in 0..500 {
            outbox.line(&Bytes::from_static(b"1 {\"status\":\"OK\"}\n"));
        }
        poll_fn(|cx| outbox.poll_write(cx, &mut stream)).await.unwrap();
        assert!(outbox.is_empty() && stream.0 == 1, "{} writes", stream.0);
    }
}
