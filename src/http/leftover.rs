//! A request body that nobody wants: read and dropped within bounds, so that the connection goes on (RFC 9112, 9.3).
//!
//! Beyond the bounds the response is the last one of its connection, which closes such that the response arrives (9.6). A
//! connection of HTTP/2 goes on: only the stream is closed, and as gently ([`linger`]).

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::EXPECT;
use tokio::time::timeout;

/// The most bytes that are read: the default of other servers for a whole body.
const MAX_BYTES: u64 = 1 << 20;
/// The longest wait for the end of a body.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// How long the rest of a body of HTTP/2 is read and dropped beside its response, as on a connection that closes.
const LINGER: Duration = Duration::from_secs(2);

/// Reads the body to its end. False when that would take too much, or when the client waits to be asked for it.
pub(super) async fn discard(body: &mut Incoming, asked: &HeaderMap) -> bool {
    // Nobody asks for it: whether it comes nevertheless is not known (RFC 9110, 10.1.1).
    if asked.contains_key(EXPECT) || body.size_hint().lower() > MAX_BYTES {
        return false;
    }
    let whole = async {
        let mut read = 0;
        while let Some(frame) = next(body).await {
            let Ok(frame) = frame else { return false };
            read += frame.data_ref().map_or(0, Bytes::len) as u64;
            if read > MAX_BYTES {
                return false;
            }
        }
        true
    };
    timeout(MAX_WAIT, whole).await.unwrap_or(false)
}

/// Reads the rest of a body of HTTP/2 while its response is sent. A body that is dropped resets its stream (RFC 9113, 8.1), and
/// clients that are still sending then take the response for lost.
pub(super) fn linger(mut body: Incoming) {
    tokio::spawn(timeout(LINGER, async move { while let Some(Ok(_)) = next(&mut body).await {} }));
}

async fn next(body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
