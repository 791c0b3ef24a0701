//! Envoy's access log as JSON: an object a line, whose names the operator chooses. These are known: those of Envoy's
//! documentation and of Istio, what nginx and others write when they log JSON, and what dproxy writes.

use std::borrow::Cow;

use serde::Deserialize;

use super::record::Logged;
use super::scalar::Scalar;

#[derive(Deserialize)]
struct EnvoyLine<'a> {
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request_method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    #[serde(borrow)]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request_uri: Option<Cow<'a, str>>,
    #[serde(borrow)]
    response_code: Option<Scalar<'a>>,
    #[serde(borrow)]
    status: Option<Scalar<'a>>,
    #[serde(borrow)]
    bytes_sent: Option<Scalar<'a>>,
    #[serde(borrow)]
    body_bytes_sent: Option<Scalar<'a>>,
    #[serde(borrow)]
    bytes: Option<Scalar<'a>>,
    #[serde(borrow)]
    start_time: Option<Scalar<'a>>,
    #[serde(borrow)]
    time: Option<Scalar<'a>>,
    #[serde(borrow)]
    timestamp: Option<Scalar<'a>>,
}

/// Reads a line; `None` if it lacks method, path or status.
pub(super) fn read(line: &str) -> Option<Logged<'_>> {
    let line: EnvoyLine<'_> = serde_json::from_str(line).ok()?;
    let at = line.start_time.or(line.time).or(line.timestamp);
    // Both of nginx's may be there: the one without the head of the reply is the size of the document.
    let bytes = line.body_bytes_sent.or(line.bytes_sent).or(line.bytes);
    Some(Logged {
        method: line.method.or(line.request_method)?,
        target: line.path.or(line.uri).or(line.request_uri)?,
        status: line.response_code.or(line.status)?.status()?,
        at: at.and_then(|at| at.time()),
        bytes: bytes.and_then(|bytes| bytes.count()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Parsed, Parser, Reason, Request, Size, TraceFormat};
    use crate::proxy::cache::Millis;

    const LINE: &str = r#"{"start_time":"2026-11-30T13:50:15.250Z","method":"GET","path":"/article/1?lang=en","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","bytes_received":0,"bytes_sent":512,"duration":3,"upstream_service_time":"2","x_forwarded_for":null,"user_agent":"curl/8.5","authority":"shop.example","upstream_host":"10.0.0.4:8080"}"#;

    #[test]
    fn reads_requests_under_the_usual_names() {
        let parsed = |line: &str| Parser::new(TraceFormat::Envoy).parse(line);
        let (key, at) = ("article/1".into(), Some(Millis(1_796_046_615_250)));
        let request = Parsed::Request(Request { key, at, size: Size::Bytes(512) });
        assert_eq!(parsed(LINE), request);
        assert_eq!(parsed(&LINE.replace(":200", ":\"200\"").replace(":512", ":\"512\"")), request);
        let nginx = r#"{"timestamp":1796046615.25,"request_method":"GET","request_uri":"/article/1","status":"200","bytes_sent":"700","body_bytes_sent":"512"}"#;
        assert_eq!(parsed(nginx), request);
        let own = r#"{"time":"2026-11-30T13:50:15.250Z","address":"192.0.2.7","method":"GET","path":"/article/1","status":200,"code":"OK","bytes":512,"cache":"hit","node":8001,"took_ms":0.012}"#;
        assert_eq!(parsed(own), request);
        assert_eq!(parsed(&LINE.replace(":200", ":503")), Parsed::LeftOut(Reason::Status));
        assert_eq!(parsed(&LINE.replace("GET", "POST")), Parsed::LeftOut(Reason::Method));
        // A connection of TCP.
        let tcp = LINE.replace("\"GET\"", "null").replace("\"/article/1?lang=en\"", "null");
        assert_eq!((parsed(&tcp), parsed(&LINE[..50])), (Parsed::Other, Parsed::Other));
    }
}
