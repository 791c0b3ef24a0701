//! Caddy's access log: a JSON object a line, with the request in an object of its own. Other lines of Caddy may stand between.

use std::borrow::Cow;

use serde::Deserialize;

use super::record::Logged;
use super::scalar::Scalar;

#[derive(Deserialize)]
struct CaddyLine<'a> {
    #[serde(borrow)]
    ts: Option<Scalar<'a>>,
    #[serde(borrow)]
    request: Asked<'a>,
    status: u16,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    uri: Cow<'a, str>,
}

/// Reads a line; `None` if it tells of no request.
pub(super) fn read(line: &str) -> Option<Logged<'_>> {
    let CaddyLine { ts, request, status, size } = serde_json::from_str(line).ok()?;
    let at = ts.and_then(|ts| ts.time());
    Some(Logged { method: request.method, target: request.uri, status, at, bytes: size })
}

#[cfg(test)]
mod tests {
    use super::super::{Parsed, Parser, Reason, Request, Size, TraceFormat};
    use crate::proxy::cache::Millis;

    const LINE: &str = r#"{"level":"info","ts":1796046615.25,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"192.0.2.7","remote_port":"41342","client_ip":"192.0.2.7","proto":"HTTP/2.0","method":"GET","host":"shop.example","uri":"/article/1?lang=en","headers":{"User-Agent":["curl/8.5"]},"tls":{"resumed":false,"version":772}},"bytes_read":0,"user_id":"","duration":0.000929675,"size":10900,"status":200,"resp_headers":{"Server":["Caddy"]}}"#;

    #[test]
    fn reads_requests_and_no_other_lines() {
        let parsed = |line: &str| Parser::new(TraceFormat::Caddy).parse(line);
        let request = |millis: u64| {
            let (key, at) = ("article/1".into(), Some(Millis(1_796_046_615_000 + millis)));
            Parsed::Request(Request { key, at, size: Size::Bytes(10_900) })
        };
        assert_eq!(parsed(LINE), request(250));
        assert_eq!(parsed(&LINE.replace("1796046615.25", "\"2026-11-30T13:50:15.250Z\"")), request(250));
        assert_eq!(parsed(&LINE.replace("1796046615.25", "\"2026/11/30 13:50:15\"")), request(0));
        assert_eq!(parsed(&LINE.replace(":200,", ":502,")), Parsed::LeftOut(Reason::Status));
        assert_eq!(parsed(&LINE.replace("GET", "DELETE")), Parsed::LeftOut(Reason::Method));
        let other = r#"{"level":"info","ts":1796046615.1,"msg":"serving initial configuration"}"#;
        assert_eq!((parsed(other), parsed(&LINE[..100])), (Parsed::Other, Parsed::Other));
    }
}
