//! The common and the combined log of nginx, Apache and varnishncsa, with or without a host in front and columns behind:
//!
//! ```text
//! 192.0.2.7 - anna [30/Nov/2026:14:50:15 +0100] "GET /article/1 HTTP/1.1" 200 512 "-" "curl/8.5"
//! ```

use super::record::Logged;
use super::time;
use crate::proxy::cache::Millis;

/// Reads a line; `None` if it has no time in brackets with a request and a status behind it.
pub(super) fn read(line: &str) -> Option<Logged<'_>> {
    let (at, rest) = timed(line)?;
    let (request, rest) = quoted(rest)?;
    let mut columns = rest.split_ascii_whitespace();
    let status = columns.next()?.parse().ok().filter(|status| (100..=999).contains(status))?;
    // A dash is how Apache and Varnish write that no bytes were sent.
    let bytes = columns.next().and_then(|bytes| if bytes == "-" { Some(0) } else { bytes.parse().ok() });
    let (method, target) = request.split_once(' ').unwrap_or((request, ""));
    // A path may have blanks that the client did not encode.
    let target = match target.rsplit_once(' ') {
        Some((target, version)) if version.starts_with("HTTP/") => target,
        _ => target,
    };
    Some(Logged { method: method.into(), target: target.into(), status, at: Some(at), bytes })
}

/// The time in brackets, and what is behind it. A host comes first, so a line does not begin with the time: that of Envoy does,
/// whose columns are others.
fn timed(line: &str) -> Option<(Millis, &str)> {
    line.match_indices('[').filter(|(at, _)| *at > 0).find_map(|(at, _)| {
        let (text, rest) = line[at + 1..].split_once(']')?;
        Some((time::common(text).or_else(|| time::iso(text))?, rest))
    })
}

/// The text within quotes, and what is behind them; a backslash escapes a quote.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix(" \"")?;
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&inner[..end], &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::super::{Parsed, Parser, Reason, Request, Size, TraceFormat};
    use super::*;

    fn parsed(line: &str) -> Parsed {
        Parser::new(TraceFormat::Combined).parse(line)
    }

    #[test]
    fn reads_nginx_apache_and_varnish() {
        for line in [
            r#"192.0.2.7 - - [30/Nov/2026:14:50:15 +0100] "GET /article/1?lang=en HTTP/1.1" 200 512 "https://a.example/" "Mozilla/5.0 (X11; Linux) [en]""#,
            r#"2001:db8::7 - anna b [30/Nov/2026:13:50:15 +0000] "GET /article/1 HTTP/2.0" 200 512"#,
            r#"shop.example:443 192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] "GET /article/1 HTTP/1.1" 200 512 "-" "say \"hi\"""#,
            r#"[::1]:80 192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] "GET /article/1 HTTP/1.1" 200 512 "-" "-" 0.003"#,
            r#"192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] "GET http://shop.example/article/1 HTTP/1.1" 200 512 "-" "-""#,
            r#"192.0.2.7 - - [2026-11-30T13:50:15+00:00] "GET /article/1 HTTP/1.1" 200 512 "-" "-""#,
        ] {
            let request = Request {
                key: "article/1".into(),
                at: Some(Millis(1_796_046_615_000)),
                size: Size::Bytes(512),
            };
            assert_eq!(parsed(line), Parsed::Request(request), "{line}");
        }
    }

    #[test]
    fn reads_odd_requests() {
        let line = |request: &str, rest: &str| {
            parsed(&format!("192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] \"{request}\" {rest}"))
        };
        let key = |parsed| match parsed {
            Parsed::Request(Request { key, .. }) => key.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(key(line(r#"GET /say/\"hi\" HTTP/1.1"#, "200 5")), r#"say/\"hi\""#);
        assert_eq!(key(line("GET /two words HTTP/1.1", "200 5")), "two words");
        assert_eq!(key(line("GET /old", "200 5")), "old");
        assert_eq!(key(line("HEAD /a HTTP/1.1", "304 -")), "a");
        for (request, rest, reason) in [
            ("POST /a HTTP/1.1", "200 5", Reason::Method),
            ("GET /a HTTP/1.1", "404 5", Reason::Status),
            ("-", "408 -", Reason::Method),
            ("", "400 0", Reason::Method),
            (r"\x16\x03\x01", "400 157", Reason::Method),
            ("GET * HTTP/1.1", "200 5", Reason::Path),
        ] {
            assert_eq!(line(request, rest), Parsed::LeftOut(reason), "{request}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for line in [
            "article/1",
            r#"192.0.2.7 - - [today] "GET /a HTTP/1.1" 200 5"#,
            r#"192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] "GET /a HTTP/1.1"#,
            r#"192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] GET /a 200"#,
            r#"192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] "GET /a HTTP/1.1" OK"#,
            // Envoy's text: the numbers behind the status are not the bytes sent.
            r#"[2026-11-30T13:50:15.000Z] "GET /a HTTP/1.1" 200 - 0 154 5 5 "-" "curl" "-" "a" "b:80""#,
        ] {
            assert_eq!(parsed(line), Parsed::Other, "{line}");
        }
    }
}
