//! The end of a connection, such that its last reply arrives.
//!
//! A close while received bytes are unread, or before more of them arrive, resets the connection: the kernel at the
//! client's end then discards the part of the reply that the client has not read (RFC 9293, 3.6.1). So our half is closed
//! first, and what the client still sends is read and discarded for [`LINGER`].

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::transport::Stream;

/// The longest wait for a client that does not close its half.
const LINGER: Duration = Duration::from_secs(2);

/// Closes a connection whose client is not known to have sent more than was read.
pub(crate) async fn close(stream: &mut Stream) {
    // An error means that the connection is closed already.
    // The last record of TLS may have to wait for a client that does not read.
    let _ = timeout(LINGER, stream.shutdown()).await;
    if let Some(Ok(1..)) = stream.read(&mut [0]).now_or_never() {
        linger(stream).await;
    }
}

/// Closes a connection whose client may still be sending.
pub(crate) async fn linger(stream: &mut Stream) {
    send_last(stream, b"").await;
}

/// Sends a last reply on a connection that is not served, and closes it.
pub(crate) async fn turn_away(mut stream: Stream, reply: &[u8]) {
    send_last(&mut stream, reply).await;
}

async fn send_last(stream: &mut Stream, reply: &[u8]) {
    let sent = async {
        stream.write_all(reply).await?;
        stream.shutdown().await?;
        let mut discarded = [0; 4096];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // Closed by the client, broken or late: the connection ends. In a box: few connections get here, and the task of each
    // would hold the buffer.
    let _ = timeout(LINGER, Box::pin(sent)).await;
}
