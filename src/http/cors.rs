//! Cross-origin requests (CORS, the Fetch standard): browsers let a page read a response only if `--cors-origin` names it.

use std::str::FromStr;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, StatusCode};
use thiserror::Error;

use super::body::{Body, Response};

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

/// Whether this is a preflight: a browser's question before the request itself.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight; [`allow`] adds the origin.
pub(super) fn preflight() -> Response {
    let mut response = Response::new(Body::Whole(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("If-None-Match"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Adds the headers by which a browser lets the page with the origin `asked` read the response, if it is allowed.
pub(super) fn allow(allowed: &[CorsOrigin], asked: Option<&HeaderValue>, headers: &mut HeaderMap) {
    let any = allowed.iter().find(|origin| origin.0 == "*");
    if any.is_none() {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    let found = any.or_else(|| allowed.iter().find(|origin| Some(&origin.0) == asked));
    if let Some(origin) = found {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.0.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("ETag, Age, Cache-Status"));
    }
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
