//! `GET /{resource}/{key}`: from a reply of the role to a response.

use std::fmt::Write;

use bytes::Bytes;
use hyper::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, VARY,
};
use hyper::{HeaderMap, StatusCode};

use super::body::{Body, Response};
use super::encoding::{Encoding, LONG, WORTH_IT};
use super::etag::ETag;
use super::problem::problem;
use crate::wire::reply::{Content, Data};
use crate::wire::{Reply, ReplyView, Status};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// For a document without a TTL. It is cached until a purge, of which caches in front of us hear nothing: they have to
/// revalidate.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// How a document was served, as this node or the proxy behind it reports.
struct Delivery {
    node: Option<u16>,
    cache_hit: bool,
    stale: bool,
    age: Option<u32>,
    fresh_for: Option<u32>,
}

/// The response to a reply; `asked` are the request's headers, `stale_directives` the proxy's directives after `max-age`.
///
/// `Err` hands back a long text that the client accepts compressed: too long to compress on a core that serves others.
pub(super) fn response(
    reply: Reply,
    asked: &HeaderMap,
    stale_directives: &str,
) -> Result<Response, Box<Long>> {
    let (data, served) = match reply.content {
        Content::Own { data, served, .. } => (data, served),
        Content::Relayed(line) => return relayed(&line, asked, stale_directives),
    };
    let delivery = served.map(|served| Delivery {
        node: Some(served.node),
        cache_hit: served.cache_hit,
        stale: served.stale,
        age: Some(served.age),
        fresh_for: served.fresh_for,
    });
    match data {
        Data::Document(document) => {
            found(Bytes::from_owner(document), delivery.as_ref(), asked, stale_directives)
        }
        Data::Text(text) => Ok(failed(reply.status, Some(&text), delivery)),
        Data::Json(text) => found(Bytes::from(text), delivery.as_ref(), asked, stale_directives),
        Data::Null => Ok(failed(reply.status, None, delivery)),
    }
}

/// The response to a proxy's reply line, which a balancer relays.
fn relayed(line: &Bytes, asked: &HeaderMap, stale_directives: &str) -> Result<Response, Box<Long>> {
    let Ok(view) = ReplyView::parse(line) else {
        return Ok(problem(Status::ProxyUnreachable, "the reply of the proxy is none"));
    };
    let delivery = view.cache_hit.map(|cache_hit| Delivery {
        node: view.node,
        cache_hit,
        stale: view.stale,
        age: view.age,
        fresh_for: view.fresh_for,
    });
    if view.status == Status::Ok {
        return match view.document(usize::MAX) {
            Ok(document) => found(Bytes::from_owner(document), delivery.as_ref(), asked, stale_directives),
            Err(_) => Ok(problem(Status::ProxyUnreachable, "the reply of the proxy is no document")),
        };
    }
    let detail = serde_json::from_str::<Option<String>>(view.data).ok().flatten();
    Ok(failed(view.status, detail.as_deref(), delivery))
}

/// A long text to be compressed, and the head of its response.
pub(super) struct Long {
    pub(super) head: Response,
    pub(super) text: Bytes,
    pub(super) encoding: Encoding,
}

impl Long {
    /// The whole response. Slow for a long text: call it in the pool.
    pub(super) fn encode(self) -> Response {
        match self.encoding.encode(&self.text) {
            Ok(bytes) => self.head.map(|_| Body::Whole(Bytes::from(bytes))),
            Err(_) => problem(Status::Overloaded, "the document could not be coded as you asked"),
        }
    }
}

fn found(
    text: Bytes,
    delivery: Option<&Delivery>,
    asked: &HeaderMap,
    stale_directives: &str,
) -> Result<Response, Box<Long>> {
    let is_worth_it = text.len() >= WORTH_IT;
    let encoding = if is_worth_it { Encoding::negotiate(asked) } else { Encoding::Identity };
    let tag = ETag::of(&text);
    let mut response = Response::new(Body::Whole(Bytes::new()));
    let mut headers = HeaderMap::with_capacity(12);
    if let Ok(tag) = HeaderValue::from_maybe_shared(Bytes::from(tag.header(encoding))) {
        headers.insert(ETAG, tag);
    }
    headers.insert(
        CACHE_CONTROL,
        delivery.map_or(ASK_AGAIN, |delivery| cache_control(delivery, stale_directives)),
    );
    if is_worth_it {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(delivery) = delivery {
        write_delivery(delivery, &mut headers);
    }
    if asked.contains_key(hyper::header::IF_NONE_MATCH) && tag.is_known_to(asked) {
        *response.headers_mut() = headers;
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    headers.insert(CONTENT_TYPE, JSON);
    if encoding != Encoding::Identity {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    *response.headers_mut() = headers;
    match encoding {
        Encoding::Identity => Ok(response.map(|_| Body::Whole(text))),
        _ if text.len() < LONG => Ok(Long { head: response, text, encoding }.encode()),
        _ => Err(Box::new(Long { head: response, text, encoding })),
    }
}

fn failed(status: Status, detail: Option<&str>, delivery: Option<Delivery>) -> Response {
    let detail = detail.unwrap_or(match status {
        Status::NotFound => "there is no such document",
        _ => "the origin failed",
    });
    let mut response = problem(status, detail);
    if let Some(delivery) = delivery {
        if let (Status::NotFound, Some(1..)) = (status, delivery.fresh_for) {
            response.headers_mut().insert(CACHE_CONTROL, cache_control(&delivery, ""));
        }
        write_delivery(&delivery, response.headers_mut());
    }
    response
}

/// `Cache-Control` (RFC 9111). Caches subtract `Age`, so `max-age` is the time left plus the age.
fn cache_control(delivery: &Delivery, stale_directives: &str) -> HeaderValue {
    let lifetime = match (delivery.stale, delivery.fresh_for) {
        (true, _) => 0,
        (false, Some(fresh_for)) => fresh_for.saturating_add(delivery.age.unwrap_or(0)),
        (false, None) => return ASK_AGAIN,
    };
    let mut number = itoa::Buffer::new();
    let mut value = String::with_capacity(20 + stale_directives.len());
    value.push_str("max-age=");
    value.push_str(number.format(lifetime));
    value.push_str(stale_directives);
    text(&value)
}

/// Writes `Age`, and `Cache-Status` of RFC 9211.
fn write_delivery(delivery: &Delivery, headers: &mut HeaderMap) {
    if let Some(age) = delivery.age {
        headers.insert(AGE, HeaderValue::from(age));
    }
    let Some(node) = delivery.node else { return };
    let mut value = String::with_capacity(40);
    // A write to a String cannot fail.
    let _ = write!(value, "dproxy-{node}; {}", if delivery.cache_hit { "hit" } else { "fwd=miss" });
    match (delivery.cache_hit, delivery.fresh_for) {
        (true, _) if delivery.stale => value.push_str("; ttl=0; detail=stale"),
        (true, Some(seconds)) => drop(write!(value, "; ttl={seconds}")),
        _ => {}
    }
    headers.insert(CACHE_STATUS, text(&value));
}

/// A header value from visible ASCII that was composed here.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Document, Served};

    fn respond(reply: Reply, headers: &[(&'static str, &'static str)]) -> Response {
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: HeaderMap = pairs.collect();
        response(reply, &headers, ", stale-if-error=60").unwrap_or_else(|long| long.encode())
    }

    fn header<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes(), 100_000).unwrap()
    }

    const SERVED: Served = Served { cache_hit: true, node: 8001, age: 18, stale: false, fresh_for: Some(12) };

    #[test]
    fn headers_say_how_a_document_was_served() {
        let hit = respond(Reply::document(document("{}")).with(SERVED), &[]);
        assert_eq!(header(&hit, "cache-status"), "dproxy-8001; hit; ttl=12");
        assert_eq!(header(&hit, "cache-control"), "max-age=30, stale-if-error=60");
        assert_eq!((header(&hit, "age"), header(&hit, "content-type")), ("18", "application/json"));
        let stale = Served { stale: true, fresh_for: Some(0), ..SERVED };
        let stale = respond(Reply::document(document("{}")).with(stale), &[]);
        assert_eq!(header(&stale, "cache-status"), "dproxy-8001; hit; ttl=0; detail=stale");
        assert_eq!(header(&stale, "cache-control"), "max-age=0, stale-if-error=60");
        let kept = Served { fresh_for: None, cache_hit: false, ..SERVED };
        let kept = respond(Reply::document(document("{}")).with(kept), &[]);
        assert_eq!(
            (header(&kept, "cache-control"), header(&kept, "cache-status")),
            ("no-cache", "dproxy-8001; fwd=miss")
        );
    }

    #[test]
    fn a_relayed_line_is_the_same_document() {
        let line = br#"{"status": "OK", "data": {"a": 1}, "cache_hit": true, "node": 8002.0, "stale":true, "age":3}"#;
        let relayed = respond(Reply::relayed(Status::Ok, Bytes::from_static(line)), &[]);
        let own = respond(Reply::document(document(r#"{"a":1}"#)).with(SERVED), &[]);
        assert_eq!(header(&relayed, "etag"), header(&own, "etag"));
        assert_eq!(header(&relayed, "cache-status"), "dproxy-8002; hit; ttl=0; detail=stale");
        assert_eq!(header(&relayed, "age"), "3");
        let missing = br#"{"status":"NOT_FOUND","data":null,"cache_hit":false,"node":8002}"#;
        let missing = respond(Reply::relayed(Status::NotFound, Bytes::from_static(missing)), &[]);
        assert_eq!(
            (missing.status(), header(&missing, "cache-control")),
            (StatusCode::NOT_FOUND, "no-store")
        );
    }
}
