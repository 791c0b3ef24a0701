//! The last bytes of a connection leave with its close, in one segment.
//!
//! By itself each of the two is a way through the kernel to the peer and back, which costs as much as the reply. The
//! kernel keeps back what `MSG_MORE` says is not all (send(2)), until the close that comes right after it, or a
//! shutdown; if neither came, for 200 ms.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::libc::{MSG_MORE, MSG_NOSIGNAL, c_int};
use socket2::SockRef;
use tokio::io::{AsyncWrite, Interest};

use super::transport::Stream;

/// The close comes right behind; and a peer that has gone is an error here and no signal, also in a program that embeds us.
const MORE: c_int = MSG_MORE | MSG_NOSIGNAL;

/// To write the last bytes of a stream with, until all have left; it is to be closed at once then.
pub(super) fn last_words(stream: &mut Stream) -> impl AsyncWrite + Unpin {
    Parting(stream)
}

struct Parting<'a>(&'a Stream);

impl Parting<'_> {
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_io(Interest::WRITABLE, || send(SockRef::from(self.0))) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncWrite for Parting<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_with_flags(bytes, MORE))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_vectored_with_flags(pieces, MORE))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.0).shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    /// Both ends of a connection that takes a few thousand bytes at a time.
    async fn narrow() -> (Stream, Stream) {
        let listening = TcpSocket::new_v4().unwrap();
        listening.set_send_buffer_size(4096).unwrap();
        listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listening.listen(1).unwrap();
        let reader = TcpSocket::new_v4().unwrap();
        reader.set_recv_buffer_size(4096).unwrap();
        let reader = reader.connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, reader)
    }

    async fn all_of(mut reader: Stream) -> Vec<u8> {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn a_close_sends_what_was_kept_back() {
        let (mut writer, reader) = narrow().await;
        last_words(&mut writer).write_all(b"good bye").await.unwrap();
        drop(writer);
        assert_eq!(all_of(reader).await, b"good bye");
    }

    #[tokio::test]
    async fn so_does_a_shutdown_that_the_peer_may_answer() {
        let (mut writer, reader) = narrow().await;
        last_words(&mut writer).write_all(b"good bye").await.unwrap();
        writer.shutdown().await.unwrap();
        assert_eq!(all_of(reader).await, b"good bye");
    }

    #[tokio::test]
    async fn what_is_more_than_the_peer_takes_at_once_arrives_whole() {
        let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut writer, reader) = narrow().await;
        let reading = tokio::spawn(all_of(reader));
        let mut left = &text[..];
        while !left.is_empty() {
            let (first, second) = left.split_at(left.len() / 2);
            let n =
                last_words(&mut writer).write_vectored(&[IoSlice::new(first), IoSlice::new(second)]).await;
            left = &left[n.unwrap()..];
        }
        drop(writer);
        assert!(reading.await.unwrap() == text);
    }
}
