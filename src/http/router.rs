//! Everything that is not a document: the page and its parts, metrics, health.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

use super::body::for_axum;
use super::problem::{CHANGED, allowed, problem};
use super::site::{Role, Site};
use super::{metrics, page};
use crate::handler::Handler;
use crate::wire::{Key, Status};

type At<H> = State<Arc<Site<H>>>;

/// The routes of a node.
pub(super) fn router<H: Handler>(site: Arc<Site<H>>) -> Router {
    let has_page = site.config.role != Role::Origin;
    Router::new()
        .route("/metrics", get(scrape::<H>))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready::<H>))
        .route(CHANGED, any(only_posted::<H>))
        .merge(if has_page { page::routes() } else { Router::new() })
        .fallback(no_document::<H>)
        .method_not_allowed_fallback(async |State(site): At<H>| {
            for_axum(site.refusal(Status::WrongMethod, "this is read with GET or HEAD"))
        })
        .with_state(site)
}

async fn alive() -> Response {
    plain(StatusCode::OK, "alive")
}

async fn ready<H: Handler>(State(site): At<H>) -> Response {
    match site.is_ready().await {
        Ok(()) => plain(StatusCode::OK, "ready"),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

fn plain(code: StatusCode, text: &'static str) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (code, headers, format!("{text}\n")).into_response()
}

/// What comes with POST does not come here.
async fn only_posted<H: Handler>(State(site): At<H>) -> Response {
    let mut response = for_axum(site.refusal(Status::WrongMethod, "changes are reported with POST"));
    response.headers_mut().insert(ALLOW, allowed(CHANGED));
    response
}

async fn scrape<H: Handler>(State(site): At<H>, headers: HeaderMap) -> Response {
    let format = metrics::Format::negotiate(&headers);
    match metrics::render(&site, format).await {
        Ok(text) => {
            let headers =
                [(CONTENT_TYPE, format.content_type()), (CACHE_CONTROL, "no-store"), (VARY, "accept")];
            (headers, text).into_response()
        }
        Err(_) => for_axum(problem(Status::Overloaded, "the metrics could not be written")),
    }
}

/// A path of one segment that has no route; no document has such a path.
async fn no_document<H: Handler>(State(site): At<H>, uri: Uri) -> Response {
    let error = Key::parse(uri.path().trim_start_matches('/')).err();
    let detail = error.map_or_else(|| "there is no such page".to_owned(), |error| error.to_string());
    for_axum(site.refusal(Status::BadRequest, &detail))
}
