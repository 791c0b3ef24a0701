//! The node as every part of the HTTP front end sees it: its configuration, its handler, and the texts of open pages.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{Body, Response};
use super::cors::CorsOrigin;
use super::head::TOO_LARGE;
use super::measured::Measured;
use super::problem::{last_response, problem};
use super::query::IgnoredQuery;
use crate::handler::{Ask, Handler};
use crate::net::ServerLimits;
use crate::net::accept::Door;
use crate::net::unread::TOO_MUCH;
use crate::pool;
use crate::samples::{NodeHealth, Sample};
use crate::wire::query::Parameters;
use crate::wire::reply::{Content, Data};
use crate::wire::{Request, Status};

/// METRICS of more bytes are parsed on the pool, not on a thread that serves connections.
const LONG: usize = 64 << 10;

/// The configuration of a [`Gateway`](super::Gateway).
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The role of the node.
    pub role: Role,
    /// The port of the line protocol, by which the page names the node.
    pub node: u16,
    /// The origins (RFC 6454) whose pages may read documents; none by default.
    pub cors: Vec<CorsOrigin>,
    /// The names, beside `localhost` and addresses, by which requests may call this node; `None` for any.
    /// A listener on loopback is to have some: a page of a rebound name must not read it.
    pub names: Option<Vec<String>>,
    /// The parameters that documents have. None by default.
    pub parameters: Parameters,
    /// Parameters of queries that documents ignore; any other is refused. None by default.
    pub ignore_query: Vec<IgnoredQuery>,
    /// For how long a proxy serves a stale document while it fetches it anew (RFC 5861).
    pub stale_while_revalidate: Duration,
    /// For how long a proxy serves a stale document while its origin fails (RFC 5861).
    pub stale_if_error: Duration,
    /// The file with the token that `POST /changed` has to bring; without one it is refused.
    pub changed_token_file: Option<PathBuf>,
    /// The limits of the line port, for this port.
    pub limits: ServerLimits,
}

impl HttpConfig {
    /// The front end of the node whose lines are served on port `node`, with the defaults of the command line.
    pub fn new(role: Role, node: u16) -> Self {
        Self {
            role,
            node,
            cors: Vec::new(),
            names: None,
            parameters: Parameters::default(),
            ignore_query: Vec::new(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            changed_token_file: None,
            limits: ServerLimits::default(),
        }
    }
}

/// The roles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The documents.
    Origin,
    /// One cache.
    Proxy,
    /// The cluster behind one balancer.
    Balancer,
}

impl Role {
    /// The name on the page and in labels of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Origin => "origin",
            Role::Proxy => "proxy",
            Role::Balancer => "balancer",
        }
    }
}

/// The texts that open pages show; shared by all of them.
#[derive(Clone, Default, Debug)]
pub(super) struct PageTexts {
    /// JSON of the state.
    pub(super) state: Arc<str>,
    /// JSON of the plots.
    pub(super) plots: Arc<str>,
    /// Grows by one when the plots are drawn again.
    pub(super) drawings: u64,
}

/// The node, for all connections.
pub(super) struct Site<H> {
    pub(super) handler: Arc<Measured<H>>,
    pub(super) config: HttpConfig,
    /// The directives after `max-age=…` in `Cache-Control`, each with a comma before it.
    pub(super) stale_directives: String,
    /// Cancelled when the node stops: it is not ready any more.
    pub(super) draining: CancellationToken,
    pub(super) door: Arc<Door>,
    /// Sent every second.
    pub(super) page: watch::Sender<PageTexts>,
}

impl<H: Handler> Site<H> {
    pub(super) fn new(
        handler: Arc<Measured<H>>,
        config: HttpConfig,
        draining: CancellationToken,
        door: Arc<Door>,
    ) -> Self {
        let stale_directives = stale_directives(&config);
        let page = watch::Sender::new(PageTexts::default());
        Self { handler, config, stale_directives, draining, door, page }
    }

    /// The `data` of METRICS; `null` if the node has no room for an answer.
    pub(super) async fn metrics(&self) -> Value {
        let parse = |text: &str| serde_json::from_str(text).unwrap_or_default();
        match self.metrics_text().await {
            Some(text) if text.len() > LONG => pool::run(move || parse(&text)).await.unwrap_or_default(),
            Some(text) => parse(&text),
            None => Value::Null,
        }
    }

    /// The `data` of METRICS as text.
    pub(super) async fn metrics_text(&self) -> Option<String> {
        let ask = Ask::new(Request::Metrics, IpAddr::V4(Ipv4Addr::LOCALHOST), Instant::now());
        match self.handler.answer(ask).reply().await.content {
            Content::Own { data: Data::Json(text), .. } => Some(text),
            _ => None,
        }
    }

    /// The response to a request that no role is asked about; counted.
    pub(super) fn refusal(&self, status: Status, detail: &str) -> Response {
        self.handler.refused(status);
        problem(status, detail)
    }

    /// The response to a head that the parser cannot read, in bytes; `code` is the parser's.
    pub(super) fn refuse_head(&self, code: u16) -> Vec<u8> {
        let detail = match code {
            431 => TOO_LARGE.to_owned(),
            414 => "the target is too long".to_owned(),
            _ => format!("this is no HTTP/1.1 request; lines are served on port {}", self.config.node),
        };
        self.handler.refused(Status::BadRequest);
        last_response(code, Status::BadRequest, &detail)
    }

    /// The response to a client without TLS at a port that speaks it, in bytes.
    pub(super) fn needs_tls(&self) -> Vec<u8> {
        self.handler.refused(Status::BadRequest);
        last_response(400, Status::BadRequest, "this port speaks TLS: ask it with https")
    }

    /// The reply line to a client of the line protocol.
    pub(super) fn refuse_line(&self) -> Vec<u8> {
        let detail = format!("this port serves HTTP; lines are served on port {}", self.config.node);
        let mut line = self.handler.error(Status::BadRequest, detail).to_line().into_bytes();
        line.push(b'\n');
        line
    }

    /// The response to a connection over the limit, in bytes.
    pub(super) fn refuse_connection(&self) -> Vec<u8> {
        self.handler.refused(Status::Overloaded);
        last_response(503, Status::Overloaded, "too many connections")
    }

    /// The response, or `OVERLOADED` if too many bytes wait for slow clients already.
    pub(super) fn fitting(&self, response: Response) -> Response {
        match response.body() {
            // Of HTTP/1, which has one response at a time; streams share what their connection may have unread.
            Body::Whole(text)
                if self.config.limits.unread.has_no_room_for(text.len(), true, Instant::now()) =>
            {
                problem(Status::Overloaded, TOO_MUCH)
            }
            _ => response,
        }
    }

    /// Whether the node should get requests; the error is the reason, for `/readyz`.
    pub(super) async fn is_ready(&self) -> Result<(), &'static str> {
        if self.draining.is_cancelled() {
            return Err("stopping");
        }
        let is_served = match self.config.role {
            Role::Origin | Role::Proxy => true,
            Role::Balancer => Sample::from_metrics(&self.metrics().await, "")
                .is_some_and(|sample| sample.nodes.iter().any(|node| gets_requests(node.health))),
        };
        if is_served { Ok(()) } else { Err("there is no healthy proxy") }
    }
}

fn gets_requests(health: NodeHealth) -> bool {
    !matches!(health, NodeHealth::Down | NodeHealth::Drained)
}

fn stale_directives(config: &HttpConfig) -> String {
    let named = [
        ("stale-while-revalidate", config.stale_while_revalidate),
        ("stale-if-error", config.stale_if_error),
    ];
    let set = named.iter().filter(|(_, time)| !time.is_zero());
    set.map(|(name, time)| format!(", {name}={}", time.as_secs())).collect()
}
