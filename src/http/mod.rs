//! The HTTP front end of a proxy or a balancer: a second front end over the same handler.
//!
//! ```text
//!   asker ──▶ conn (hyper, deadlines) ▶ service ──/{resource}/{key}──▶ Handler ▶ document ──▶ response
//!                                          └──/, /metrics, /healthz …──▶ router (axum) ▶ metrics, page
//! ```
//! A document has at least two segments in its path and everything else has one, so the two never meet. A hit takes the
//! upper way without a task, a timer or a lock. `metrics` and `page` know of a node what its METRICS say, and what
//! [`Measured`] counts; nothing more is asked of the roles.

mod body;
mod conn;
mod cors;
mod document;
mod encoding;
mod etag;
mod measured;
mod metrics;
mod page;
mod path;
mod problem;
mod router;
mod service;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::body::{Body, Response};
pub use self::cors::{CorsOrigin, CorsOriginError};
pub use self::measured::Measured;
use self::page::Live;
use self::problem::problem;
use crate::handler::{Ask, Handler};
use crate::net::ServerLimits;
use crate::net::accept::{Door, Front, accept};
use crate::net::transport::{Listener, Stream};
use crate::net::unread::TOO_MUCH;
use crate::wire::reply::Data;
use crate::wire::{Request, Status};

/// What an asker that is not admitted is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 117\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"too many connections\",\"code\":\"OVERLOADED\"}";

/// What a gateway is told at its start.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Whose front end it is.
    pub role: Role,
    /// The port of the node's lines, by which people know it.
    pub node: u16,
    /// The pages that may read documents from elsewhere.
    pub cors: Vec<CorsOrigin>,
    /// How long stale documents are served, while they are fetched anew and when that fails: a proxy's settings.
    pub stale_while_revalidate: Duration,
    /// See [`HttpConfig::stale_while_revalidate`].
    pub stale_if_error: Duration,
    /// As on the line port.
    pub limits: ServerLimits,
}

/// The roles that have an HTTP front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// One cache.
    Proxy,
    /// The whole cluster, as its balancer sees it.
    Balancer,
}

impl Role {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Proxy => "proxy",
            Role::Balancer => "balancer",
        }
    }
}

/// The front end: one, however many listeners it serves.
pub struct Gateway<H> {
    front: Arc<Gate<H>>,
    door: Arc<Door>,
}

impl<H> Clone for Gateway<H> {
    fn clone(&self) -> Self {
        Self { front: self.front.clone(), door: self.door.clone() }
    }
}

/// What all connections have in common.
struct Gate<H> {
    site: Arc<Site<H>>,
    router: TowerToHyperService<Router>,
    /// No more connections are accepted.
    close: CancellationToken,
    /// Connections end with their next response.
    ending: CancellationToken,
}

/// What all parts know of the node.
struct Site<H> {
    handler: Arc<Measured<H>>,
    config: HttpConfig,
    /// What follows `max-age=…` in `Cache-Control`.
    lenience: String,
    /// The node is stopping: whoever asks whether it is ready is told that it is not.
    draining: CancellationToken,
    door: Arc<Door>,
    live: Live,
}

impl<H: Handler> Gateway<H> {
    /// A front end to `handler`: not ready any more once `draining` is cancelled, and serving until `close` is.
    pub fn new(
        handler: Arc<Measured<H>>,
        config: HttpConfig,
        draining: CancellationToken,
        close: CancellationToken,
    ) -> Self {
        let ServerLimits { max_connections, drain, hand_over, .. } = config.limits;
        // Who is sent away comes back at once, and shall meet the next process where there is one.
        let ending = if hand_over.is_some() { CancellationToken::new() } else { close.clone() };
        let door = Arc::new(Door::new(max_connections, drain).handed_over(hand_over));
        let lenience = lenience(&config);
        let live = Live::default();
        let site = Arc::new(Site { handler, config, lenience, draining, door: door.clone(), live });
        let router = TowerToHyperService::new(router::router(site.clone()));
        Self { front: Arc::new(Gate { site, router, close, ending }), door }
    }

    /// Serves a listener; returns when its connections have ended. False when some had to be cut.
    pub async fn serve(&self, listener: Listener) -> bool {
        let close = async {
            self.front.site.draining.cancelled().await;
            // Lines drain first, and what they leave of the time is left for these.
            self.door.end();
            self.front.close.cancelled().await;
        };
        accept(listener, &self.front, &self.door, close).await
    }

    /// Keeps what the live page shows, for ever.
    pub async fn watch(self) {
        page::watch(&self.front.site).await;
    }
}

impl<H: Handler> Front for Gate<H> {
    async fn serve(&self, stream: Stream, from: IpAddr) {
        let watch = Arc::default();
        let service = service::Service::new(self.site.clone(), self.router.clone(), from, Arc::clone(&watch));
        conn::serve(stream, service, watch, &self.site.config.limits, &self.ending).await;
    }

    fn end(&self) {
        self.ending.cancel();
    }

    async fn turn_away(&self, stream: Stream) {
        conn::turn_away(stream, FULL, self.site.config.limits.write_deadline).await;
    }
}

impl<H: Handler> Site<H> {
    /// The `data` of METRICS: what every view of the node is made of.
    async fn samples(&self) -> Value {
        let ask = Ask::new(Request::Metrics, IpAddr::V4(Ipv4Addr::LOCALHOST), Instant::now());
        match self.handler.answer(ask).reply().await.data {
            Data::Json(text) => serde_json::from_str(&text).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// The response, if there is room for it while it is not read.
    fn fitting(&self, response: Response) -> Response {
        match response.body() {
            Body::Whole(text) if self.config.limits.unread.has_no_room_for(text.len(), Instant::now()) => {
                problem(Status::Overloaded, TOO_MUCH)
            }
            _ => response,
        }
    }

    /// Whether requests had better be sent here.
    async fn is_ready(&self) -> Result<(), &'static str> {
        if self.draining.is_cancelled() {
            return Err("stopping");
        }
        let is_served = match self.config.role {
            Role::Proxy => true,
            Role::Balancer => {
                let samples = self.samples().await;
                let mut nodes = samples["proxies"].as_object().into_iter().flatten();
                nodes.any(|(_, node)| node["healthy"] == true)
            }
        };
        if is_served { Ok(()) } else { Err("there is no healthy proxy") }
    }
}

fn lenience(config: &HttpConfig) -> String {
    let named = [
        ("stale-while-revalidate", config.stale_while_revalidate),
        ("stale-if-error", config.stale_if_error),
    ];
    let set = named.iter().filter(|(_, time)| !time.is_zero());
    set.map(|(name, time)| format!(", {name}={}", time.as_secs())).collect()
}
