//! PURGE at every node. A node that cannot do it now owes it, and gets no requests until it is done.
//!
//! A node that is up may take long: the purge is waited for, and the node gets requests meanwhile. Nobody is told yet that the
//! purge is done. It is sent again only if the node has not begun it, or owes it.
//!
//! A node that refuses it keeps what it holds, and gets requests all the same: it would refuse the next attempt, too. So it is
//! with a purge that it owes. The client was told that it is owed; METRICS and the log tell that it was refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::info;

use super::health::State;
use super::node::Node;
use super::owed::{Owed, Purge, request};
use super::upstreams::Upstreams;
use crate::blame::Fault;
use crate::handler::Answer;
use crate::net::LinkError;
use crate::pool;
use crate::wire::{Pattern, Reply, ReplyView, Request, Status};

/// The pause before a purge that found no connection free is tried again, and between two looks whether a node is still up.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// Owed purges that a node does at once: fewer than it may have connections, so that those of clients go on.
const AT_ONCE: usize = 32;
/// What the balancer cannot do for a purge that is owed.
pub(super) const LIMIT: &str = "other balancers do not know what is owed: purge through each of them";

/// The result of a purge at one node, as the client reads it.
#[derive(Serialize)]
#[serde(untagged)]
enum AtNode {
    Purged {
        purged: u64,
        /// Whether the node may still find more. It shows none of them meanwhile.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        at_least: bool,
    },
    /// It is done as soon as the node is back, before that gets requests.
    Owed { owed: bool, why: String },
    /// The node said no, and will say so again.
    Refused { error: String },
}

/// The `data` of the reply to PURGE.
#[derive(Serialize)]
struct Purged {
    purged: u64,
    /// Only when a node may still find more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    at_least: bool,
    proxies: BTreeMap<String, AtNode>,
    /// Whether what is owed survives a restart of this balancer. Only when something is owed; so is `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
}

/// The `data` of one node's reply. Older nodes print floats for whole numbers.
#[derive(Deserialize)]
struct PurgedThere {
    purged: f64,
    #[serde(default)]
    at_least: bool,
}

/// The result of sending one purge to one node.
pub(super) enum PurgeOutcome {
    Purged {
        purged: u64,
        at_least: bool,
    },
    /// It may succeed later.
    NotDone(String),
    /// The node answers, and has no room for it now.
    Overloaded,
    /// It never will.
    Refused(String),
}

/// Purges at every node in parallel. A client that leaves does not leave a purge half done.
pub(super) fn purge(upstreams: Arc<Upstreams>, pattern: Pattern<'_>, soft: bool) -> Answer {
    let text = pattern.to_string();
    Answer::apart(async move {
        match Pattern::parse(&text) {
            Ok(pattern) => purge_everywhere(&upstreams, pattern, soft).await,
            Err(error) => Reply::text(Status::BadRequest, error.to_string()),
        }
    })
}

/// The status is OK only when every node did it; PROXY_ERROR when one refused, else PROXY_UNREACHABLE when one owes it.
async fn purge_everywhere(upstreams: &Arc<Upstreams>, pattern: Pattern<'_>, soft: bool) -> Reply {
    let nodes = upstreams.members.note_purge(pattern, soft);
    let each = nodes.iter().map(async |member| {
        (member.name.to_string(), purge_at(upstreams, &member.node, pattern, soft).await)
    });
    let proxies: BTreeMap<String, AtNode> = join_all(each).await.into_iter().collect();
    let purged = proxies.values().map(|at| if let AtNode::Purged { purged, .. } = at { *purged } else { 0 });
    let (purged, any) = (purged.sum(), |is: fn(&AtNode) -> bool| proxies.values().any(is));
    let is_owed = any(|at| matches!(at, AtNode::Owed { .. }));
    let status = match any(|at| matches!(at, AtNode::Refused { .. })) {
        true => Status::ProxyError,
        false if is_owed => Status::ProxyUnreachable,
        false => Status::Ok,
    };
    let durable = if is_owed { Some(keep_owed(upstreams).await) } else { None };
    let at_least = any(|at| matches!(at, AtNode::Purged { at_least: true, .. }));
    let data = Purged { purged, at_least, proxies, durable, limit: is_owed.then_some(LIMIT) };
    Reply { status, ..Reply::json(&data) }
}

/// Writes what is owed to the file, if there is one; true when it survives a restart.
pub(super) async fn keep_owed(upstreams: &Arc<Upstreams>) -> bool {
    let keeper = upstreams.clone();
    upstreams.members.keeps_owed() && pool::run(move || keeper.members.keep_owed()).await.unwrap_or(false)
}

async fn purge_at(upstreams: &Upstreams, node: &Node, pattern: Pattern<'_>, soft: bool) -> AtNode {
    let why = match node.state() {
        // It gets no requests before it has done what it owes.
        State::Down if node.refuses_purges() => "the node is down, and refused the last purge".to_owned(),
        State::Down => "the node is down".to_owned(),
        _ if node.owes() => "it owes others already".to_owned(),
        State::Healthy | State::Probing => {
            match send_while_up(upstreams, node, Request::Purge { pattern, soft }).await {
                PurgeOutcome::Purged { purged, at_least } => return AtNode::Purged { purged, at_least },
                PurgeOutcome::Refused(error) => return AtNode::Refused { error },
                PurgeOutcome::NotDone(why) => why,
                PurgeOutcome::Overloaded => "it is overloaded".to_owned(),
            }
        }
    };
    let is_kept = node.owe(|owed| owed.add(pattern, soft));
    node.polls.hasten(upstreams.clock.now());
    match is_kept {
        true => AtNode::Owed { owed: true, why },
        false => {
            AtNode::Refused { error: "it owes too many purges already; purge whole resources".to_owned() }
        }
    }
}

async fn send_while_up(upstreams: &Upstreams, node: &Node, request: Request<'_>) -> PurgeOutcome {
    let deadline = Instant::now() + upstreams.purge_deadline;
    // Overloaded: the node has not begun it. It is asked again, as it would be in vain to take out a node that answers.
    let done = async {
        loop {
            match send(node, request, deadline).await {
                PurgeOutcome::Overloaded if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
                outcome => break outcome,
            }
        }
    };
    tokio::select! {
        biased;
        outcome = done => outcome,
        () = goes_down(node) => PurgeOutcome::NotDone("the node went down meanwhile".to_owned()),
    }
}

/// Waits until a node is down.
pub(super) async fn goes_down(node: &Node) {
    while node.state() != State::Down {
        sleep(PAUSE).await;
    }
}

/// Does the purges that a node owes, until one cannot be done. True when none is left.
pub(super) async fn settle(upstreams: &Arc<Upstreams>, node: &Node) -> bool {
    loop {
        let owed = node.some_owed(AT_ONCE);
        if owed.is_empty() {
            break;
        }
        let deadline = Instant::now() + node.owe(|owed| owed.patience(upstreams.purge_deadline));
        let settle_one = async |(purge, number): &(Purge, u64)| {
            let outcome = match request(purge) {
                Some(request) => Some(send(node, request, deadline).await),
                None => None,
            };
            let is_done = !matches!(outcome, Some(PurgeOutcome::NotDone(_) | PurgeOutcome::Overloaded));
            if is_done {
                node.owe(|owed| owed.done(purge, *number));
            }
            is_done
        };
        if !join_all(owed.iter().map(settle_one)).await.iter().all(|is_done| *is_done) {
            node.owe(Owed::was_in_vain);
            return false;
        }
    }
    info!(node = %node.link().peer(), "the node owes no purge any more");
    // If this fails, a restart has them done once more.
    keep_owed(upstreams).await;
    true
}

/// Asks a node, beside the requests of clients.
pub(super) async fn ask_patiently(
    node: &Node,
    request: Request<'_>,
    deadline: Instant,
) -> Result<Bytes, LinkError> {
    loop {
        match node.link().ask_apart(request, deadline).await {
            // Other purges have the connections, or this process lacks something: no reason to take the node out.
            Err(error)
                if Fault::of_error(error, false) == Fault::Ours && Instant::now() + PAUSE < deadline =>
            {
                sleep(PAUSE).await;
            }
            line => return line,
        }
    }
}

pub(super) async fn send(node: &Node, request: Request<'_>, deadline: Instant) -> PurgeOutcome {
    let line = match ask_patiently(node, request, deadline).await {
        Ok(line) => line,
        Err(error) => return PurgeOutcome::NotDone(error.to_string()),
    };
    match ReplyView::parse(&line) {
        Ok(view) if view.status == Status::Ok => {
            node.has_purged();
            let there: Option<PurgedThere> = serde_json::from_str(view.data).ok();
            let purged = there.as_ref().map_or(0, |there| there.purged as u64);
            PurgeOutcome::Purged { purged, at_least: there.is_some_and(|there| there.at_least) }
        }
        Ok(view) if Fault::of_reply(&view) == Some(Fault::Full) => PurgeOutcome::Overloaded,
        // A node without PURGE, or that does not take it from us, will not change its mind.
        Ok(view) => {
            node.has_refused_purge(view.status);
            PurgeOutcome::Refused(view.status.to_string())
        }
        Err(error) => PurgeOutcome::NotDone(error.to_string()),
    }
}
