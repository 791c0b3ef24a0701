//! What a balancer answers beside GET and METRICS: PURGE to every node, EXPLAIN of a key, DRAIN and UNDRAIN.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Lb;
use super::health::State;
use super::metrics::state_of;
use super::node::Node;
use super::nodes::{Place, Tried};
use super::owed::request;
use crate::admin::FORBIDDEN;
use crate::handler::Answer;
use crate::lock::lock;
use crate::net::LinkError;
use crate::wire::{Key, KeyBuf, Pattern, Reply, ReplyView, Request, Status};

/// One node must have done its purge within this time, else it owes it.
const PURGE_DEADLINE: Duration = Duration::from_secs(2);
/// A node must have explained a key within this time.
const EXPLAIN_DEADLINE: Duration = Duration::from_secs(2);

/// What a purge came to at one node.
#[derive(Serialize)]
#[serde(untagged)]
enum Done {
    Purged {
        purged: u64,
    },
    /// It is done as soon as the node is back, before it gets requests.
    Owed {
        owed: bool,
        why: String,
    },
    /// The node said no, and will say so again.
    Refused {
        error: String,
    },
}

/// The `data` of the reply to PURGE.
#[derive(Serialize)]
struct Purged {
    purged: u64,
    proxies: BTreeMap<String, Done>,
}

/// The `data` of the reply to DRAIN and UNDRAIN.
#[derive(Serialize)]
struct Drained<'a> {
    node: &'a str,
    state: &'static str,
    in_flight: u64,
}

/// What came of asking one node to purge.
enum Asked {
    Purged(u64),
    NotDone(String),
    Refused(String),
}

impl Lb {
    /// Purges at every node in parallel. What a node could not do it owes.
    pub(super) fn purge(self: &Arc<Self>, pattern: Pattern<'_>, soft: bool, from: IpAddr) -> Answer {
        if !self.config.admins.has(from) {
            return Answer::Now(Reply::text(Status::Forbidden, FORBIDDEN));
        }
        let (lb, text) = (self.clone(), pattern.to_string());
        // In a task of its own: a client that leaves does not leave a purge half done.
        let purge = tokio::spawn(async move {
            match Pattern::parse(text.as_bytes()) {
                Ok(pattern) => lb.purge_everywhere(pattern, soft).await,
                Err(error) => Reply::text(Status::BadRequest, error.to_string()),
            }
        });
        Answer::later(async move {
            let cut_short = || Reply::text(Status::Overloaded, "the purge was cut short; ask again");
            purge.await.unwrap_or_else(|_| cut_short())
        })
    }

    async fn purge_everywhere(&self, pattern: Pattern<'_>, soft: bool) -> Reply {
        // A node that joins later is told as well: it may have been in use before.
        let nodes = {
            let mut purges = lock(&self.purges);
            purges.add(pattern, soft);
            self.nodes.load_full()
        };
        let each = nodes
            .iter()
            .map(async |place| (place.name.to_string(), self.purge_at(&place.node, pattern, soft).await));
        let proxies: BTreeMap<String, Done> = join_all(each).await.into_iter().collect();
        let purged =
            proxies.values().map(|done| if let Done::Purged { purged } = done { *purged } else { 0 });
        Reply::json(&Purged { purged: purged.sum(), proxies })
    }

    async fn purge_at(&self, node: &Node, pattern: Pattern<'_>, soft: bool) -> Done {
        let why = match node.state() {
            // Nobody asks it anything before it was told.
            State::Down => "the node is down".to_owned(),
            _ if node.owes() => "it owes others already".to_owned(),
            State::Healthy | State::Probing => match ask(node, Request::Purge { pattern, soft }).await {
                Asked::Purged(purged) => return Done::Purged { purged },
                Asked::Refused(error) => return Done::Refused { error },
                Asked::NotDone(why) => why,
            },
        };
        let is_kept = node.owe(|owed| owed.add(pattern, soft));
        node.polls.hasten(self.now());
        match is_kept {
            true => Done::Owed { owed: true, why },
            false => {
                Done::Refused { error: "it owes too many purges already; purge whole resources".to_owned() }
            }
        }
    }

    /// Does what a node owes, as far as it goes. True when nothing is left.
    pub(super) async fn settle(&self, node: &Node) -> bool {
        while let Some((purge, wish)) = node.first_owed() {
            let Some(request) = request(&purge) else {
                node.owe(|owed| owed.done(&purge, wish));
                continue;
            };
            match ask(node, request).await {
                Asked::NotDone(_) => return false,
                Asked::Purged(_) | Asked::Refused(_) => node.owe(|owed| owed.done(&purge, wish)),
            };
        }
        info!(node = %node.link().peer(), "the node has done all purges that it owed");
        true
    }

    /// Which node would be asked for a key, and what that one knows of it.
    pub(super) fn explain(self: &Arc<Self>, key: Key<'_>) -> Answer {
        let (lb, key) = (self.clone(), key.to_owned());
        Answer::later(async move { lb.explained(key).await })
    }

    async fn explained(&self, key: KeyBuf) -> Reply {
        let nodes = self.nodes.load_full();
        let candidates = nodes.candidates(&Tried::new(), self.view(self.now()));
        let index = self.balance.peek(key.as_key(), &candidates);
        let Some(Place { node, name, .. }) = index.and_then(|index| nodes.0.get(index)) else {
            return Reply::text(Status::ProxyError, "there is no healthy proxy to try");
        };
        let request = Request::Explain(key.as_key());
        let line = node.link().ask(request, Instant::now() + EXPLAIN_DEADLINE).await;
        let mut data = Map::new();
        data.insert("proxy".to_owned(), Value::from(&**name));
        data.insert("strategy".to_owned(), Value::from(self.config.strategy.as_str()));
        data.insert("goes_by_key".to_owned(), Value::from(self.balance.goes_by_key()));
        match line.as_ref().map(|line| ReplyView::parse(line)) {
            Ok(Ok(view)) if view.status == Status::Ok => {
                // What the proxy says stands beside: its members, as it wrote them.
                let told: Option<Map<String, Value>> = serde_json::from_str(view.data).ok();
                data.extend(told.unwrap_or_default());
            }
            Ok(Ok(view)) => drop(data.insert("error".to_owned(), Value::from(view.status.as_str()))),
            Ok(Err(error)) => drop(data.insert("error".to_owned(), Value::from(error.to_string()))),
            Err(error) => drop(data.insert("error".to_owned(), Value::from(error.to_string()))),
        }
        Reply::json(&data)
    }

    /// Gives a node no new requests, or again.
    pub(super) fn drain(&self, name: &str, draining: bool, from: IpAddr) -> Answer {
        if !self.config.admins.has(from) {
            return Answer::Now(Reply::text(Status::Forbidden, FORBIDDEN));
        }
        let nodes = self.nodes.load();
        let Some(place) = nodes.named(name) else {
            return Answer::Now(Reply::text(
                Status::BadRequest,
                "this balancer has no such node; METRICS names them",
            ));
        };
        let node = &place.node;
        if node.drain(draining) {
            let told = if draining {
                "the node drains: it gets no new requests"
            } else {
                "the node takes requests again"
            };
            info!(node = name, "{told}");
        }
        let drained = Drained { node: &place.name, state: state_of(node), in_flight: node.in_flight() };
        Answer::Now(Reply::json(&drained))
    }
}

async fn ask(node: &Node, request: Request<'_>) -> Asked {
    #[derive(serde::Deserialize)]
    struct Told {
        purged: f64,
    }
    let asked = node.link().ask_apart(request, Instant::now() + PURGE_DEADLINE).await;
    let line = match asked {
        Ok(line) => line,
        Err(LinkError::Busy) => return Asked::NotDone("too many purges wait for it".to_owned()),
        Err(error) => return Asked::NotDone(error.to_string()),
    };
    match ReplyView::parse(&line) {
        Ok(view) if view.status == Status::Ok => {
            let told: Option<Told> = serde_json::from_str(view.data).ok();
            Asked::Purged(told.map_or(0, |told| told.purged as u64))
        }
        // It may do it later; one that has no PURGE, or does not take it from us, never will.
        Ok(view) if view.status == Status::Overloaded => Asked::NotDone("it is overloaded".to_owned()),
        Ok(view) => {
            let (node, status) = (node.link().peer(), view.status);
            warn!(%node, %status, "the node refuses a purge and keeps what it holds; is this balancer in its --admin-from?");
            Asked::Refused(status.to_string())
        }
        Err(error) => Asked::NotDone(error.to_string()),
    }
}
