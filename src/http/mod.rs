//! The HTTP front end of a role: a second front end over the same handler.
//!
//! ```text
//!   client ──▶ conn (hyper, deadlines) ▶ service ──/{resource}/{key}──▶ Handler ▶ document ──▶ response
//!                                           └──/, /metrics, /healthz …──▶ router (axum) ▶ metrics, page
//! ```
//! The path of a document has at least two segments and every other path has one, so they never meet. A hit takes the
//! upper way without a task, a timer or a lock. `metrics` and `page` know what METRICS and [`Measured`] report, and ask
//! the roles for nothing more. `site` is the node that all of them share; this file puts them together.

mod accept;
mod active;
mod body;
mod changed;
mod conn;
mod cors;
mod date;
mod document;
mod encoding;
mod etag;
mod head;
mod host;
mod leftover;
mod measured;
mod metrics;
mod opening;
mod page;
mod problem;
mod query;
mod router;
mod service;
mod site;
mod storage_events;
mod streams;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use self::active::Activity;
pub use self::cors::{CorsOrigin, CorsOriginError};
pub use self::measured::Measured;
pub use self::query::{IgnoredQuery, IgnoredQueryError};
use self::site::Site;
pub use self::site::{HttpConfig, Role};
use crate::handler::Handler;
use crate::net::ServerLimits;
use crate::net::accept::{Admitted, Door, Front, accept};
use crate::net::closing;
use crate::net::tls::{Greeted, Spoken, greet};
use crate::net::transport::{Listener, Stream, limit_unsent};

/// The front end: one, however many listeners it serves.
pub struct Gateway<H> {
    front: Arc<HttpFront<H>>,
    door: Arc<Door>,
}

impl<H> Clone for Gateway<H> {
    fn clone(&self) -> Self {
        Self { front: self.front.clone(), door: self.door.clone() }
    }
}

/// The state of all connections.
struct HttpFront<H> {
    site: Arc<Site<H>>,
    router: TowerToHyperService<Router>,
    /// No more connections are accepted.
    close: CancellationToken,
    /// Connections end with their next response.
    ending: CancellationToken,
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
        // A client whose connection ends comes back at once: it has to meet the next process, where there is one.
        let ending = if hand_over.is_some() { CancellationToken::new() } else { close.clone() };
        let door = Arc::new(Door::new(max_connections, drain).handed_over(hand_over));
        let site = Arc::new(Site::new(handler, config, draining, door.clone()));
        let router = TowerToHyperService::new(router::router(site.clone()));
        Self { front: Arc::new(HttpFront { site, router, close, ending }), door }
    }

    /// Serves a listener; returns when its connections have ended. False when some had to be cut.
    pub async fn serve(&self, listener: Listener) -> bool {
        limit_unsent(&listener, self.front.site.config.limits.unread.unsent());
        let close = async {
            self.front.site.draining.cancelled().await;
            // Line connections drain first; these get the time that is left.
            self.door.end();
            self.front.close.cancelled().await;
        };
        accept(listener, &self.front, &self.door, close).await
    }

    /// Keeps the live page and the Date of responses up to date, without an end. An origin has no page.
    pub async fn watch(self) {
        match self.front.site.config.role {
            Role::Origin => date::follow().await,
            Role::Proxy | Role::Balancer => {
                tokio::join!(page::watch(&self.front.site), date::follow());
            }
        }
    }
}

impl<H: Handler> Front for HttpFront<H> {
    async fn serve(&self, stream: Stream, from: IpAddr, at: Admitted) {
        let limits = &self.site.config.limits;
        let tls = limits.tls.as_ref().map(|tls| (tls, Spoken::Http));
        let stream = match greet(stream, from, tls, &at, limits.line_deadline, self.ending.cancelled()).await
        {
            Some(Greeted::Ready(stream)) => stream,
            Some(Greeted::Plain(stream)) => {
                return closing::turn_away(stream, &self.site.needs_tls()).await;
            }
            None => return,
        };
        let activity = Arc::new(Activity::new(at));
        let service =
            service::Service::new(self.site.clone(), self.router.clone(), from, Arc::clone(&activity));
        conn::serve(stream, service, activity, &self.site, &self.ending).await;
    }

    fn end(&self) {
        self.ending.cancel();
    }
}
