//! A word to those who speak HTTP to the port of lines: a whole response of theirs, which names the right port.

use serde_json::json;

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
}
