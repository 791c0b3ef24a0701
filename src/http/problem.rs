//! Errors as `application/problem+json` (RFC 9457), and the HTTP status for each status of the wire.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use serde::Serialize;

use super::body::{Body, Response};
use super::head::TOO_LARGE;
use crate::wire::Status;

/// What is sent is of the type that it says.
pub(super) const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// The path that reports changes.
pub(super) const CHANGED: &str = "/changed";
/// The seconds after which a client may try an overloaded node again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The methods of a path.
pub(super) fn allowed(path: &str) -> HeaderValue {
    HeaderValue::from_static(if path == CHANGED { "POST, OPTIONS" } else { "GET, HEAD, OPTIONS" })
}

/// A problem of RFC 9457; `code` is the status of the wire.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
}

/// The HTTP status for a status of the wire.
pub(super) fn status_code(status: Status) -> StatusCode {
    StatusCode::from_u16(status.http_code()).unwrap_or(StatusCode::BAD_GATEWAY)
}

fn text(code: StatusCode, status: Status, detail: &str) -> Vec<u8> {
    let title = code.canonical_reason().unwrap_or("Error");
    let problem =
        Problem { r#type: "about:blank", title, status: code.as_u16(), detail, code: status.as_str() };
    serde_json::to_vec(&problem).unwrap_or_default()
}

/// A whole response in bytes, the last one of a connection that hyper does not serve.
pub(super) fn last_response(code: u16, status: Status, detail: &str) -> Vec<u8> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    let body = text(code, status, detail);
    let retry = if code == StatusCode::SERVICE_UNAVAILABLE { "Retry-After: 1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n{retry}\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// The response to a request that calls this node by a name that is not its own (RFC 9110, 15.5.20).
pub(super) fn misdirected(detail: &str) -> Response {
    response(StatusCode::MISDIRECTED_REQUEST, Status::BadRequest, detail)
}

/// The response to a request whose head is too large.
pub(super) fn too_large() -> Response {
    response(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Status::BadRequest, TOO_LARGE)
}

/// The response to a failed request; `detail` is a sentence for people.
pub(super) fn problem(status: Status, detail: &str) -> Response {
    response(status_code(status), status, detail)
}

fn response(code: StatusCode, status: Status, detail: &str) -> Response {
    let mut response = Response::new(Body::Whole(Bytes::from(text(code, status, detail))));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    match code {
        StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, RETRY_SECONDS)),
        StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, allowed(""))),
        _ => {}
    }
    response
}
