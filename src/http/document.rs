//! `GET /{resource}/{key}`: from a reply of the role to a response.

use std::fmt::Write;

use bytes::Bytes;
use hyper::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, StatusCode};

use super::body::{Body, Response};
use super::encoding::{Encoding, LONG, WORTH_IT};
use super::etag::ETag;
use super::problem::{NO_SNIFF, problem};
use crate::wire::reply::{Content, Data};
use crate::wire::{Reply, ReplyView, Status, Terms};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// For a document without a TTL. It is cached until a purge, of which caches in front of us hear nothing: they have to
/// revalidate.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// How a document was served, as this node or the proxy behind it reports.
struct Delivery<'a> {
    node: Option<u16>,
    name: Option<&'a str>,
    cache_hit: bool,
    stale: bool,
    age: Option<u32>,
    fresh_for: Option<u32>,
    terms: Terms,
}

impl Delivery<'_> {
    /// The time to live in seconds, from the fetch on; `None` without an end. An older proxy does not send it: there it is the
    /// rest of it plus the age.
    fn lifetime(&self) -> Option<u32> {
        let age = self.age().unwrap_or(0);
        let whole = self.terms.lifetime.or(self.fresh_for.map(|left| left.saturating_add(age)));
        // Stale before its time, by a purge: caches in front have to see it as stale, too.
        if self.stale { Some(self.terms.lifetime.unwrap_or(0).min(age)) } else { whole }
    }

    /// The age in seconds: rounded down, but up to the end of the lifetime where that is over.
    fn age(&self) -> Option<u32> {
        let end = self.terms.lifetime.filter(|_| self.stale);
        self.age.map(|age| end.filter(|end| *end == age + 1).unwrap_or(age))
    }
}

/// The response to a reply; `asked` are the request's headers, `stale_directives` what stands after `max-age` where the reply
/// does not say on what terms the document is held.
///
/// `Err` hands back a long text that the client accepts compressed: too long to compress on a core that serves others.
pub(super) fn response(
    reply: Reply,
    asked: &HeaderMap,
    stale_directives: &str,
) -> Result<Response, Box<Long>> {
    let (data, served) = match reply.content {
        Content::Own { data, beside, .. } => (data, beside.served().copied()),
        Content::Relayed(line) => return relayed(&line, asked, stale_directives),
    };
    let delivery = served.map(|served| Delivery {
        node: Some(served.node),
        name: served.name,
        cache_hit: served.cache_hit,
        stale: served.stale,
        age: Some(served.age),
        fresh_for: served.fresh_for,
        terms: served.terms,
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
        name: view.name,
        cache_hit,
        stale: view.stale,
        age: view.age,
        fresh_for: view.fresh_for,
        terms: view.terms,
    });
    if view.status == Status::Ok {
        return match view.document("", usize::MAX) {
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
    delivery: Option<&Delivery<'_>>,
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
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
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

fn failed(status: Status, detail: Option<&str>, delivery: Option<Delivery<'_>>) -> Response {
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

/// `Cache-Control` (RFC 9111). Caches subtract `Age`, so `max-age` is the whole lifetime: the same for every reply with
/// one fetched document. What its source forbids is forbidden to them, too.
fn cache_control(delivery: &Delivery<'_>, stale_directives: &str) -> HeaderValue {
    let terms = &delivery.terms;
    if terms.not_stored {
        return HeaderValue::from_static("no-store");
    }
    let Some(lifetime) = delivery.lifetime() else { return ASK_AGAIN };
    let mut value = String::with_capacity(64);
    push_seconds(&mut value, "max-age=", lifetime);
    match terms.lifetime {
        _ if terms.must_revalidate => value.push_str(", must-revalidate"),
        Some(_) => {
            push_seconds(&mut value, ", stale-while-revalidate=", terms.stale_while_revalidate);
            push_seconds(&mut value, ", stale-if-error=", terms.stale_if_error);
        }
        // A proxy that tells no terms is an older one.
        None => value.push_str(stale_directives),
    }
    text(&value)
}

/// Appends a directive with its time; no time of staleness is no directive.
fn push_seconds(value: &mut String, directive: &str, seconds: u32) {
    if seconds > 0 || value.is_empty() {
        value.push_str(directive);
        value.push_str(itoa::Buffer::new().format(seconds));
    }
}

/// Writes `Age`, and `Cache-Status` of RFC 9211.
fn write_delivery(delivery: &Delivery<'_>, headers: &mut HeaderMap) {
    // A response that was fetched for this request has none (RFC 9111, 5.1): some caches keep nothing else.
    if let Some(age) = delivery.age().filter(|age| delivery.cache_hit || *age > 0) {
        headers.insert(AGE, HeaderValue::from(age));
    }
    let mut value = String::with_capacity(48);
    // A write to a String cannot fail.
    let _ = match (delivery.name, delivery.node) {
        (Some(name), _) => write!(value, "{name}; "),
        (None, Some(node)) => write!(value, "dproxy-{node}; "),
        (None, None) => return,
    };
    write_cache_status(delivery, &mut value);
    headers.insert(CACHE_STATUS, text(&value));
}

/// Writes the parameters of `Cache-Status`: of a hit the seconds that are left, below 0 past its end.
fn write_cache_status(delivery: &Delivery<'_>, value: &mut String) {
    if !delivery.cache_hit {
        value.push_str(if delivery.terms.was_stale { "fwd=stale" } else { "fwd=miss" });
        if delivery.terms.collapsed {
            value.push_str("; collapsed");
        }
        return;
    }
    value.push_str("hit");
    let age = i64::from(delivery.age.unwrap_or(0));
    let left = match delivery.terms.lifetime {
        Some(lifetime) => Some(i64::from(lifetime) - age),
        None => delivery.fresh_for.map(i64::from).or(delivery.stale.then_some(0)),
    };
    if let Some(left) = left {
        let _ = write!(value, "; ttl={}", if delivery.stale { left.min(0) } else { left.max(0) });
    }
    if delivery.stale {
        value.push_str("; detail=stale");
    }
}

/// A header value from visible ASCII that was composed here.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
