//! Cross-origin requests (CORS, the Fetch standard): browsers let a page read a response only if `--cors-origin` names it.

use std::str::FromStr;

use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use thiserror::Error;

use super::body::{Body, Response};
use super::problem::allowed;

/// The headers of a request that a node reads.
const READ: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Baggage, Cache-Control, If-None-Match, Traceparent, Tracestate",
);
/// The headers of a response that scripts may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("ETag, Age, Allow, Cache-Status, Retry-After");

/// An origin whose pages may read documents; `*` is every origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorsOrigin(HeaderValue);

/// The error for a text that is not an origin.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("an origin is a scheme and a host, such as https://app.example or http://localhost:3000, or *")]
pub struct CorsOriginError;

impl FromStr for CorsOrigin {
    type Err = CorsOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_host = |host: &str| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']);
        match text == "*" || host.is_some_and(is_host) {
            true => HeaderValue::from_str(text).map(Self).map_err(|_| CorsOriginError),
            false => Err(CorsOriginError),
        }
    }
}

/// Whether an OPTIONS is a preflight: a browser's question before the request itself.
pub(super) fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to OPTIONS (RFC 9110, 9.3.7) of a path.
pub(super) fn options(path: &str) -> Response {
    let mut response = Response::new(Body::Whole(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allowed(path));
    response
}

/// Adds what a preflight asks for; [`allow`] adds the origin.
pub(super) fn answer_preflight(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, READ);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// Adds the headers by which a browser lets the page with the origin `asked` read the response, if it is allowed.
pub(super) fn allow(allowed: &[CorsOrigin], asked: Option<&HeaderValue>, headers: &mut HeaderMap) {
    let any = allowed.iter().find(|origin| origin.0 == "*");
    if any.is_none() {
        vary_by_origin(headers);
    }
    let named = allowed.iter().find(|origin| Some(&origin.0) == asked);
    if let Some(origin) = named.or(any) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.0.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if any.is_none() {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// One line of `Vary`, whatever it names: some caches read only the first (RFC 9110, 5.3).
fn vary_by_origin(headers: &mut HeaderMap) {
    let by_both = match headers.get(VARY).map(HeaderValue::as_bytes) {
        None => HeaderValue::from_static("origin"),
        Some(b"accept-encoding") => HeaderValue::from_static("accept-encoding, origin"),
        Some(other) => {
            HeaderValue::from_bytes(&[other, b", origin"].concat()).unwrap_or(HeaderValue::from_static("*"))
        }
    };
    headers.insert(VARY, by_both);
}

/// The origin of the page that sent the request.
pub(super) fn asking_page(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ORIGIN).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_origins_are_allowed() {
        let one: Vec<CorsOrigin> = vec!["https://app.example".parse().unwrap()];
        let any: Vec<CorsOrigin> = vec!["*".parse().unwrap()];
        let allowed_origin = |allowed: &[CorsOrigin], asked: &'static str| {
            let mut headers = HeaderMap::new();
            allow(allowed, Some(&HeaderValue::from_static(asked)), &mut headers);
            headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed_origin(&one, "https://app.example").as_deref(), Some("https://app.example"));
        assert_eq!(allowed_origin(&one, "https://evil.example"), None);
        assert_eq!(allowed_origin(&any, "https://evil.example").as_deref(), Some("*"));
        for wrong in ["", "app.example", "https://", "https://a/", "https://a b", "null"] {
            assert!(wrong.parse::<CorsOrigin>().is_err(), "{wrong}");
        }
    }
}
