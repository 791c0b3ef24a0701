//! A word to those who speak another protocol to the port of lines.
//!
//! HTTP gets a whole response of its own, which names the right port. TLS gets a line: a client of TLS then reports that plain
//! text came ("wrong version number" says OpenSSL), while an alert would have it look for a cipher or a certificate.

use std::net::IpAddr;

use serde_json::json;
use tracing::warn;

use super::log_pause::LogPause;

/// What a client of TLS is told.
pub(super) const NO_TLS: &str = "this port serves plain text, and the client speaks TLS";

/// Whether a connection begins as one of TLS does: with a record of type 22 and a version 3.x (RFC 8446, section 5.1). No request
/// begins so.
pub(super) fn is_tls(first: &[u8]) -> bool {
    matches!(first, [22] | [22, 3, ..])
}

/// Logs a client of TLS, at most one a second.
pub(super) fn log_tls(from: IpAddr) {
    static PAUSE: LogPause = LogPause::new();
    if PAUSE.is_over() {
        warn!(%from, "a client speaks TLS to the port of lines, which serves plain text");
    }
}

/// The response to a first line of HTTP, if `line` is one.
pub(super) fn http_response(line: &str, http_port: u16) -> Option<String> {
    let is_http = [" HTTP/1.1", " HTTP/1.0", " HTTP/2.0"].iter().any(|end| line.ends_with(end));
    is_http.then(|| {
        let detail = format!("this port serves lines; HTTP is served on port {http_port}");
        let body = json!({
            "type": "about:blank", "title": "Bad Request", "status": 400, "detail": detail, "code": "BAD_REQUEST",
        })
        .to_string();
        format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_answered_so() {
        for line in ["GET / HTTP/1.1", "PRI * HTTP/2.0", "POST /article/1 HTTP/1.0"] {
            let response = http_response(line, 9080).unwrap();
            assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("port 9080"), "{response}");
        }
        assert_eq!(http_response("GET article/1", 9080), None);
    }

    #[test]
    fn tls_is_told_by_its_first_bytes() {
        assert!(is_tls(b"\x16") && is_tls(b"\x16\x03\x01\x02\x00"));
        assert!(!is_tls(b"") && !is_tls(b"GET a/1\n") && !is_tls(b"\x16\n") && !is_tls(b"\x15\x03"));
    }
}
