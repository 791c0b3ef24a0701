//! The live page: one page and its parts, embedded, with nothing from elsewhere and nothing inline.
//!
//! ```text
//!   watch (every second) ──METRICS, durations──▶ history ──▶ state, plots ──▶ Site::page ──SSE──▶ every open page
//! ```
//! The page shows what METRICS report. Keys and documents are never markup: the server sends JSON and its own plots, and
//! the page sets text.

mod changes;
mod events;
mod history;
mod live;
mod pace;
mod plots;
mod state;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, RawQuery, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::Instant;

pub(super) use self::live::watch;
use super::body::for_axum;
use super::encoding::Encoding;
use super::etag::ETag;
use super::problem::status_code;
use super::query;
use super::site::Site;
use crate::handler::{Ask, Handler};
use crate::wire::{Key, Request, Status};

const INDEX: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
/// The scripts, by their paths.
const SCRIPTS: [(&str, &str); 5] = [
    ("/app.js", include_str!("app.js")),
    ("/explain.js", include_str!("explain.js")),
    ("/fleet.js", include_str!("fleet.js")),
    ("/picture.js", include_str!("picture.js")),
    ("/text.js", include_str!("text.js")),
];
const ICON: &str = include_str!("icon.svg");

/// Nothing inline, nothing from another origin, never in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The address of the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) IpAddr);

/// The routes of the page.
pub(super) fn routes<H: Handler>() -> Router<Arc<Site<H>>> {
    let scripts = SCRIPTS.into_iter().fold(Router::new(), |router, (path, text)| {
        router.route(
            path,
            get(async move |asked: HeaderMap| asset(&asked, "text/javascript; charset=utf-8", text)),
        )
    });
    scripts
        .route("/", get(async |asked: HeaderMap| asset(&asked, "text/html; charset=utf-8", INDEX)))
        .route("/style.css", get(async |asked: HeaderMap| asset(&asked, "text/css; charset=utf-8", STYLE)))
        .route("/icon.svg", get(async |asked: HeaderMap| asset(&asked, "image/svg+xml", ICON)))
        .route("/events", get(live::events::<H>))
        .route("/explain", get(explain::<H>))
}

fn asset(asked: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let tag = ETag::of(text.as_bytes());
    let headers = [
        (CONTENT_TYPE, kind),
        // A new version of the binary is a new page.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let tagged = [(ETAG, tag.header(Encoding::Identity))];
    match tag.is_known_to(asked) {
        true => (StatusCode::NOT_MODIFIED, headers, tagged).into_response(),
        false => (headers, tagged, text).into_response(),
    }
}

/// `GET /explain?key=…`: the reply to EXPLAIN, as JSON.
async fn explain<H: Handler>(
    State(site): State<Arc<Site<H>>>,
    Extension(ClientAddress(from)): Extension<ClientAddress>,
    RawQuery(query): RawQuery,
) -> Response {
    let key = query::value(query.as_deref().unwrap_or(""), "key").unwrap_or_default();
    let key = match Key::parse(key.trim()) {
        Ok(key) => key,
        Err(error) => return for_axum(site.refusal(Status::BadRequest, &error.to_string())),
    };
    let ask = Ask::new(Request::Explain(key), from, Instant::now());
    let reply = site.handler.answer(ask).reply().await;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status_code(reply.status), headers, reply.to_line()).into_response()
}
