//! The first bytes of a connection tell its protocol: HTTP/1, HTTP/2 by prior knowledge (RFC 9113, 3.3), or lines that
//! came to the wrong port.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::net::tls::FIRST_BYTE;
use crate::net::transport::Stream;
use crate::wire::Request;

/// What a client of HTTP/2 sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for the first read: most heads fit.
const FIRST: usize = 1024;

/// The protocol of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    /// Anything that hyper is to read, or to refuse.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// A whole request of the line protocol.
    Lines,
    /// TLS, where there is none.
    Tls,
}

/// Reads until the protocol is known; these bytes are of the connection and have to be read again. `None` at its end, even
/// within what may become the preface: no request can follow.
pub(super) async fn read(stream: &mut Stream) -> io::Result<Option<(Protocol, Bytes)>> {
    let mut first = BytesMut::with_capacity(FIRST);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Ok(None);
        }
        if let Some(protocol) = protocol(&first) {
            return Ok(Some((protocol, first.freeze())));
        }
    }
}

/// The protocol of these first bytes; `None` while they may become the preface of HTTP/2.
fn protocol(first: &[u8]) -> Option<Protocol> {
    if first.first() == Some(&FIRST_BYTE) {
        return Some(Protocol::Tls);
    }
    if first.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    if PREFACE.starts_with(first) {
        return None;
    }
    let line = first.split(|&byte| byte == b'\n').next().filter(|line| line.len() < first.len());
    let line = line.and_then(|line| std::str::from_utf8(line.trim_ascii_end()).ok());
    let is_line = line.is_some_and(|line| Request::parse(line).is_ok());
    Some(if is_line { Protocol::Lines } else { Protocol::Http1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        for (first, expected) in [
            ("GET /article/1 HTTP/1.1\r\nhost: x\r\n\r\n", Some(Protocol::Http1)),
            ("G", Some(Protocol::Http1)),
            ("POST / HTTP/1.1\r\n", Some(Protocol::Http1)),
            ("hello\r\n", Some(Protocol::Http1)),
            ("\x16\x03\x01", Some(Protocol::Tls)),
            ("PRI *", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Some(Protocol::Http2)),
            ("GET article/1\n", Some(Protocol::Lines)),
            ("HELLO 2\r\n1 GET a/1\r\n", Some(Protocol::Lines)),
        ] {
            assert_eq!(protocol(first.as_bytes()), expected, "{first:?}");
        }
    }
}
