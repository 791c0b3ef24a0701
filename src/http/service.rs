//! One connection's service: documents straight from the handler, everything else by way of the router.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Version};
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;

use super::active::{Activity, Answering};
use super::body::{Body, Response};
use super::changed;
use super::cors;
use super::date;
use super::document::{self, Long};
use super::head;
use super::host;
use super::leftover;
use super::page;
use super::problem::{misdirected, problem, too_large};
use super::query;
use super::site::{HttpConfig, Site};
use super::streams::Streams;
use crate::handler::{Answer, Ask, Handler};
use crate::pool;
use crate::trace;
use crate::wire::escape::canonical;
use crate::wire::query::{Unknown, with_query};
use crate::wire::{self, Key, Status, Tell};

/// What is answered on connections of the reserve as well.
const CHECKS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The requests of one connection.
pub(super) struct Service<H> {
    site: Arc<Site<H>>,
    router: TowerToHyperService<Router>,
    pub(super) from: IpAddr,
    activity: Arc<Activity>,
}

/// A response that is there, or a future of one: a hit allocates no future.
pub(super) enum Responding {
    Now(Option<Response>),
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl Responding {
    fn now(response: Response) -> Self {
        Responding::Now(Some(response))
    }

    fn later(response: impl Future<Output = Response> + Send + 'static) -> Self {
        Responding::Later(Box::pin(response))
    }
}

impl Future for Responding {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let responded = match self.get_mut() {
            Responding::Now(response) => match response.take() {
                Some(response) => Poll::Ready(response),
                None => Poll::Pending,
            },
            Responding::Later(response) => response.as_mut().poll(cx),
        };
        responded.map(|mut response| {
            date::correct(response.headers_mut());
            Ok(response)
        })
    }
}

/// A response of which the connection knows that it is awaited.
pub(super) struct Watched {
    responding: Responding,
    _answering: Option<Answering>,
    /// Of a connection of HTTP/2.
    streams: Option<Arc<Streams>>,
}

impl Future for Watched {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.responding).poll(cx));
        Poll::Ready(Ok(match &self.streams {
            Some(streams) => response.map(|body| body.counted(streams)),
            None => response,
        }))
    }
}

impl<H: Handler> hyper::service::Service<Request<Incoming>> for Service<H> {
    type Response = Response;
    type Error = Infallible;
    type Future = Watched;

    fn call(&self, request: Request<Incoming>) -> Watched {
        self.activity.head_received();
        let (head, body) = request.into_parts();
        let responding = match body.is_end_stream() {
            _ if changed::is_asked_for(&head) => self.changed(body, head),
            true => self.with_cors(&head),
            false => self.after(body, self.with_cors(&head), head),
        };
        let responding = if self.activity.is_ending() { closing(responding) } else { responding };
        let answering = matches!(responding, Responding::Later(_)).then(|| self.activity.answering());
        Watched { responding, _answering: answering, streams: self.activity.streams().cloned() }
    }
}

impl<H: Handler> Service<H> {
    pub(super) fn new(
        site: Arc<Site<H>>,
        router: TowerToHyperService<Router>,
        from: IpAddr,
        activity: Arc<Activity>,
    ) -> Self {
        Self { site, router, from, activity }
    }

    /// Responds, with the headers by which a page of another origin may read the response.
    fn with_cors(&self, head: &Parts) -> Responding {
        if self.site.config.cors.is_empty() {
            return self.respond(head);
        }
        self.allowing(cors::asking_page(&head.headers), self.respond(head))
    }

    fn respond(&self, head: &Parts) -> Responding {
        if let Some(response) = self.turned_away(head) {
            return Responding::now(response);
        }
        if head.method == Method::OPTIONS {
            let mut response = cors::options(head.uri.path());
            if !self.site.config.cors.is_empty() && cors::is_preflight(&head.headers) {
                cors::answer_preflight(response.headers_mut());
            }
            return Responding::now(response);
        }
        // Every path but that of a document has one segment.
        match head.uri.path().strip_prefix('/') {
            Some(path) if path.contains('/') || path.contains('%') => self.document(path, head),
            _ => self.other(head),
        }
    }

    /// The response to a request that nothing here is asked about.
    fn turned_away(&self, head: &Parts) -> Option<Response> {
        if !CHECKS.contains(&head.uri.path()) && !self.activity.at().has_place() {
            return Some(self.site.refusal(Status::Overloaded, "too many connections"));
        }
        // The parser of HTTP/1 refuses it by itself.
        if head.version == Version::HTTP_2 && head::is_too_large(head) {
            self.site.handler.refused(Status::BadRequest);
            return Some(too_large());
        }
        if let Err(why) = host::check(head) {
            return Some(self.site.refusal(Status::BadRequest, why));
        }
        if let Some(names) = &self.site.config.names
            && !host::is_known(head, names)
        {
            self.site.handler.refused(Status::BadRequest);
            let detail = "this node is not called so here; --http-names says by which names it is";
            return Some(misdirected(detail));
        }
        None
    }

    /// Responds to the word that documents have changed, which stands in the body.
    fn changed(&self, mut body: Incoming, head: Parts) -> Responding {
        if let Some(response) = self.turned_away(&head) {
            return self.after(body, Responding::now(response), head);
        }
        let (site, from, activity) = (self.site.clone(), self.from, self.activity.clone());
        Responding::later(async move {
            let (response, is_read) = changed::respond(site, from, &head, &mut body).await;
            if is_read {
                activity.head_received();
                return response;
            }
            finished(body, response, &head, &activity).await
        })
    }

    fn document(&self, path: &str, head: &Parts) -> Responding {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return self.refuse(Status::WrongMethod, "a document is read with GET or HEAD");
        }
        let HttpConfig { parameters, ignore_query, .. } = &self.site.config;
        let ignored = |name: &str| query::is_ignored(name, ignore_query);
        let query = match parameters.of_url(head.uri.query().unwrap_or_default(), ignored) {
            Ok(query) => query,
            Err(Unknown(name)) => {
                let detail = format!(
                    "no document has the parameter {name:?}; --query names those that documents have, --ignore-query \
                     those to be ignored"
                );
                return self.refuse(Status::BadRequest, &detail);
            }
        };
        let path = with_query(canonical(path), &query);
        let key = match Key::parse(&path) {
            Ok(key) => key,
            Err(error) => return self.refuse(Status::BadRequest, &error.to_string()),
        };
        let headers = &head.headers;
        let parent = headers.get("traceparent").and_then(|parent| parent.to_str().ok());
        let ask = Ask::new(wire::Request::Get(key), self.from, Instant::now());
        let ask = Ask { tell: Tell::times(true), parent, ..ask };
        match trace::answer(&self.site.handler, ask, self.site.config.limits.slow_log) {
            Answer::Now(reply) => match document::response(reply, headers, &self.site.stale_directives) {
                Ok(response) => Responding::now(self.site.fitting(response)),
                Err(long) => {
                    let site = self.site.clone();
                    Responding::later(async move { site.fitting(encoded(long).await) })
                }
            },
            Answer::Later(reply) => {
                let (site, headers) = (self.site.clone(), headers.clone());
                Responding::later(async move {
                    site.fitting(match document::response(reply.await, &headers, &site.stale_directives) {
                        Ok(response) => response,
                        Err(long) => encoded(long).await,
                    })
                })
            }
        }
    }

    fn other(&self, head: &Parts) -> Responding {
        let mut request = Request::from_parts(head.clone(), axum::body::Body::empty());
        request.extensions_mut().insert(page::ClientAddress(self.from));
        let response = hyper::service::Service::call(&self.router, request);
        Responding::later(async {
            match response.await {
                Ok(response) => response.map(Body::Stream),
                Err(never) => match never {},
            }
        })
    }

    fn refuse(&self, status: Status, detail: &str) -> Responding {
        Responding::now(self.site.refusal(status, detail))
    }

    /// Responds once the request's body, which nobody reads, has come whole; or at once, as the last of its connection.
    fn after(&self, body: Incoming, responding: Responding, head: Parts) -> Responding {
        let activity = self.activity.clone();
        Responding::later(async move {
            let Ok(response) = responding.await;
            finished(body, response, &head, &activity).await
        })
    }

    fn allowing(&self, page: Option<HeaderValue>, responding: Responding) -> Responding {
        let site = self.site.clone();
        Responding::later(async move {
            let Ok(mut response) = responding.await;
            cors::allow(&site.config.cors, page.as_ref(), response.headers_mut());
            response
        })
    }
}

/// The response, once the rest of the request's body has come; or as the last of its connection.
async fn finished(mut body: Incoming, mut response: Response, head: &Parts, activity: &Activity) -> Response {
    if leftover::discard(&mut body, &head.headers).await {
        // Bytes of a body are none of the next head.
        activity.head_received();
    } else if head.version == Version::HTTP_2 {
        leftover::linger(body);
    } else {
        activity.leaves_unread();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The response, as the last of its connection.
fn closing(responding: Responding) -> Responding {
    Responding::later(async move {
        let Ok(mut response) = responding.await;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    })
}

/// Compresses a long text in the pool, so that other connections of this core go on.
async fn encoded(long: Box<Long>) -> Response {
    let encoding = pool::run(move || long.encode());
    encoding.await.unwrap_or_else(|_| problem(Status::Overloaded, "the document could not be coded in time"))
}
