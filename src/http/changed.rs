//! `POST /changed`: a webhook says that documents have changed.
//!
//! ```text
//!   POST /changed                        200
//!   Authorization: Bearer s3cret         {"seq":58,"acked":16,"lapsed":0}
//!   Content-Type: application/json
//!
//!   {"changed":["article/7","price/*"],"wait":"all"}
//! ```
//! Or the body is that of an object store (`storage_events`), for `POST /changed?prefix=<what stands before the keys>`.
//!
//! It is the CHANGED of lines, for the same addresses. A token is asked for as well, from everybody: behind a web server on the
//! same machine every client comes from loopback. Pages cannot send it, as JSON from a page is asked for beforehand.

use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::body::{Body, Response};
use super::problem::{CHANGED, NO_SNIFF, problem};
use super::query;
use super::site::Site;
use super::storage_events::{self, Event};
use crate::handler::{Ask, Handler};
use crate::pool;
use crate::trace;
use crate::wire::reply::{Content, Data};
use crate::wire::request::MAX_LINE;
use crate::wire::{Changed, Reply, Request, Status};

/// The largest body, in bytes.
const LARGEST: usize = 1 << 20;
/// The body must have come within this time.
const COMES_WITHIN: Duration = Duration::from_secs(10);
/// The longest token, in bytes.
const LONGEST_TOKEN: u64 = 4096;
/// The longest CHANGED: it fits into a line, with room for the id and the options of a session.
const MOST: usize = MAX_LINE - 1024;

/// The body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    changed: Vec<String>,
    wait: Option<Wait>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Wait {
    #[serde(rename = "all")]
    All,
}

/// What a body means.
#[derive(PartialEq, Eq, Debug)]
enum Meant {
    /// What stands behind the verb in a line, or in several.
    Words(Vec<String>),
    /// Nothing is to be said: the response.
    Nothing(Value),
}

/// Why nothing was said: a status, and a sentence for people.
type Refusal = (Status, String);

/// Whether a request is one of this file.
pub(super) fn is_asked_for(head: &Parts) -> bool {
    head.method == Method::POST && head.uri.path() == CHANGED
}

/// Says it to the node, and responds. The body is read only for whoever has the token; true when it was read whole.
pub(super) async fn respond<H: Handler>(
    site: Arc<Site<H>>,
    from: IpAddr,
    head: &Parts,
    body: &mut Incoming,
) -> (Response, bool) {
    let refused = |(status, detail): Refusal| site.refusal(status, &detail);
    if let Err(refusal) = check(site.config.changed_token_file.as_deref(), &head.headers).await {
        return (refused(refusal), false);
    }
    let read = timeout(COMES_WITHIN, Limited::new(body, LARGEST).collect()).await;
    let Ok(Ok(bytes)) = read else {
        let detail =
            format!("the body is longer than {LARGEST} bytes, was cut short or did not come in time");
        return (refused((Status::BadRequest, detail)), false);
    };
    let prefix = head.uri.query().and_then(|query| query::value(query, "prefix")).unwrap_or_default();
    let response = match meant(&bytes.to_bytes(), &prefix) {
        Ok(Meant::Words(lines)) => say_all(&site, from, &lines).await,
        Ok(Meant::Nothing(answer)) => well(answer.to_string()),
        Err(refusal) => refused(refusal),
    };
    (response, true)
}

/// Says one line after the other; the last response, or that to the first which was not taken.
async fn say_all<H: Handler>(site: &Site<H>, from: IpAddr, lines: &[String]) -> Response {
    let mut last = well("{}".to_owned());
    for words in lines {
        last = say(site, from, words).await;
        if !last.status().is_success() {
            break;
        }
    }
    last
}

/// Whether the sender may say it at all.
async fn check(token_file: Option<&Path>, headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |status, detail: &str| Err((status, detail.to_owned()));
    let Some(file) = token_file.map(Path::to_owned) else {
        return refuse(Status::Forbidden, "this node takes no webhooks: it has no --changed-token-file");
    };
    // Read each time: a token that was replaced is good for nothing from then on.
    let token = match pool::run(move || read_token(&file)).await {
        Ok(Ok(token)) => token,
        Ok(Err(why)) => {
            tracing::warn!("{why}; nobody can say over HTTP that documents have changed");
            return refuse(Status::Forbidden, "the token of this node cannot be read");
        }
        Err(_) => return refuse(Status::Overloaded, "the token of this node could not be read in time"),
    };
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let (scheme, given) = given.split_at_checked("Bearer ".len()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"Bearer ") || !is_same(given, token.as_bytes()) {
        return refuse(Status::Forbidden, "write the token of this node: Authorization: Bearer <token>");
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => refuse(Status::BadRequest, "the body is to be of the type application/json"),
    }
}

/// The token. Blocks.
fn read_token(file: &Path) -> Result<String, String> {
    let shown = |error: std::io::Error| format!("the token file {} cannot be read: {error}", file.display());
    if std::fs::metadata(file).map_err(shown)?.len() > LONGEST_TOKEN {
        return Err(format!("the token file {} is too large", file.display()));
    }
    let text = std::fs::read_to_string(file).map_err(shown)?;
    match text.trim() {
        "" => Err(format!("the token file {} is empty", file.display())),
        token => Ok(token.to_owned()),
    }
}

/// Whether two texts are the same. How long that takes depends on the length of `given` alone.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let mut differs = u8::from(given.len() != token.len());
    for (byte, right) in given.iter().zip(token.iter().cycle()) {
        differs = black_box(differs | (byte ^ right));
    }
    differs == 0
}

fn meant(body: &[u8], prefix: &str) -> Result<Meant, Refusal> {
    let event = serde_json::from_slice(body).ok().and_then(|body| storage_events::read(&body));
    match event {
        None => words(body).map(|words| Meant::Words(vec![words])),
        Some(Event::Handshake(code)) => Ok(Meant::Nothing(json!({ "validationResponse": code }))),
        Some(Event::Objects(objects)) => {
            let keys = objects.iter().filter_map(|object| storage_events::key(object, prefix));
            let lines = lines(keys);
            let ignored = json!({ "ignored": objects.len() });
            Ok(if lines.is_empty() { Meant::Nothing(ignored) } else { Meant::Words(lines) })
        }
    }
}

/// Names in as few lines as hold them.
fn lines(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut().filter(|line| line.len() + 1 + name.len() <= MOST) {
            Some(line) => line.extend([" ", name.as_str()]),
            None => lines.push(name),
        }
    }
    lines
}

/// What stands behind the verb in a line.
fn words(body: &[u8]) -> Result<String, Refusal> {
    let refuse = |detail: String| (Status::BadRequest, detail);
    let said: Said = serde_json::from_slice(body).map_err(|error| {
        refuse(format!(
            "a body is such as {{\"changed\":[\"article/7\",\"price/*\"],\"wait\":\"all\"}}, or an event of S3, \
             EventBridge, Pub/Sub or Event Grid: {error}"
        ))
    })?;
    if let Some(name) = said
        .changed
        .iter()
        .find(|name| name.contains(' ') || !(name.contains('/') || name.starts_with("tag:")))
    {
        return Err(refuse(format!("{name:?} is no name of documents: <resource>/<key or *>")));
    }
    let wait = if said.wait == Some(Wait::All) { " wait=all" } else { "" };
    let words = said.changed.join(" ") + wait;
    match words.len() > MOST {
        true => Err(refuse(format!("the names have more than {MOST} bytes: name prefixes, or send several"))),
        false => Ok(words),
    }
}

async fn say<H: Handler>(site: &Site<H>, from: IpAddr, words: &str) -> Response {
    let changed = match Changed::parse(words) {
        Ok(changed) => changed,
        Err(error) => return site.refusal(Status::BadRequest, &error.to_string()),
    };
    let ask = Ask::new(Request::Changed(changed), from, Instant::now());
    let answer = trace::answer(&site.handler, ask, site.config.limits.slow_log);
    responded(answer.reply().await)
}

/// 200, with JSON.
fn well(text: String) -> Response {
    let mut response = Response::new(Body::Whole(text.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response
}

/// The `data` of an OK as it is; else a problem.
fn responded(reply: Reply) -> Response {
    match reply.content {
        Content::Own { data: Data::Json(text), .. } if reply.status == Status::Ok => well(text),
        Content::Own { data: Data::Text(why), .. } => problem(reply.status, &why),
        // Of a balancer: which proxies were not told.
        Content::Own { data: Data::Json(text), .. } => {
            problem(reply.status, &format!("not every proxy was told: {text}"))
        }
        _ => problem(reply.status, "the word was not taken"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_or_it_is_not() {
        assert!(is_same(b"s3cret", b"s3cret"));
        for given in [&b""[..], b"s3cre", b"s3cret3", b"s3creT", b"s3crets3cret"] {
            assert!(!is_same(given, b"s3cret"), "{given:?}");
        }
    }

    #[test]
    fn a_body_is_names_and_perhaps_a_wait() {
        let read = |body: &str| words(body.as_bytes());
        assert_eq!(read(r#"{"changed":["a/1","b/*"],"wait":"all"}"#).unwrap(), "a/1 b/* wait=all");
        assert_eq!(read(r#"{"wait":null,"changed":["a/1"]}"#).unwrap(), "a/1");
        let long = format!(r#"{{"changed":[{}"a/1"]}}"#, r#""a/12345678","#.repeat(700));
        for bad in ["", "[]", "{}", r#"{"changed":["a/1"],"soft":true}"#, r#"{"changed":["a/1 b/1"]}"#, &long]
        {
            assert!(read(bad).is_err_and(|(status, _)| status == Status::BadRequest), "{bad}");
        }
        assert!(Changed::parse(&read(r#"{"changed":[]}"#).unwrap()).is_err());
    }

    #[test]
    fn an_event_of_a_store_is_lines_that_are_not_too_long() {
        let event = |names: &[String]| {
            let record = |name: &String| json!({ "s3": { "object": { "key": name } } });
            let body = json!({ "Records": names.iter().map(record).collect::<Vec<_>>() });
            meant(body.to_string().as_bytes(), "data/").unwrap()
        };
        let names = ["data/a/1.json", "other/a/2.json", "data/a/3.json"].map(str::to_owned);
        assert_eq!(event(&names), Meant::Words(vec!["a/1 a/3".to_owned()]));
        assert_eq!(event(&names[1..2]), Meant::Nothing(json!({ "ignored": 1 })));
        let many: Vec<String> = (10_000..12_000).map(|i| format!("data/a/{i}.json")).collect();
        let Meant::Words(lines) = event(&many) else { panic!("they are documents") };
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= MOST), "{}", lines.len());
        assert_eq!(lines.join(" ").split(' ').count(), 2000);
    }
}
