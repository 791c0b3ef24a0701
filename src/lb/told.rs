//! CHANGED at a balancer: every proxy is told, and each passes it on to its origin, as they need not have the same.
//!
//! A proxy that cannot be told now owes a soft purge of the same documents, as with PURGE: it is done before its next request.
//! An older proxy that does not know CHANGED gets that purge at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::health::State;
use super::node::Node;
use super::purge::{LIMIT, PAUSE, PurgeOutcome, ask_patiently, goes_down, keep_owed, send};
use super::upstreams::Upstreams;
use crate::handler::Answer;
use crate::wire::{Acked, Changed, Reply, ReplyView, Request, Status};

/// The outcome at one node, as the client reads it.
#[derive(Serialize)]
#[serde(untagged)]
enum Heard {
    Told(Acked),
    /// It is done as soon as the node is back, before that gets requests.
    Owed {
        owed: bool,
        why: String,
    },
    /// The node, or its origin, said no, or its origin was not reached.
    Refused {
        error: String,
        why: String,
    },
}

/// The `data` of the reply to CHANGED.
#[derive(Serialize)]
struct Everywhere {
    /// Proxies of this balancer that show nothing from before as fresh.
    acked: u64,
    /// The most proxies of one origin whose leases have ended before they heard of it.
    lapsed: u64,
    proxies: BTreeMap<String, Heard>,
    /// Whether what is owed survives a restart of this balancer. Only when something is owed; so is `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'static str>,
}

/// Tells every node in parallel. A client that leaves does not leave it half done.
pub(super) fn told(upstreams: Arc<Upstreams>, changed: Changed<'_>, deadline: Option<Instant>) -> Answer {
    let words = changed.to_string();
    Answer::apart(async move {
        match Changed::parse(&words) {
            Ok(changed) => tell_all(&upstreams, changed, deadline).await,
            Err(error) => Reply::text(Status::BadRequest, error.to_string()),
        }
    })
}

/// The status is OK only when every node was told; PROXY_ERROR when one refused, else PROXY_UNREACHABLE when one owes it.
async fn tell_all(upstreams: &Arc<Upstreams>, changed: Changed<'_>, deadline: Option<Instant>) -> Reply {
    let most = Instant::now() + upstreams.purge_deadline.max(changed.patience());
    let deadline = deadline.map_or(most, |deadline| deadline.min(most));
    changed.patterns().for_each(|pattern| drop(upstreams.members.note_purge(pattern, true)));
    let nodes = upstreams.members.nodes_kept();
    let each = nodes.iter().map(async |member| {
        (member.name.to_string(), tell(upstreams, &member.node, changed, deadline).await)
    });
    let proxies: BTreeMap<String, Heard> = join_all(each).await.into_iter().collect();
    let (mut acked, mut lapsed, mut is_owed, mut is_refused) = (0, 0, false, false);
    for at in proxies.values() {
        match at {
            Heard::Told(there) => (acked, lapsed) = (acked + 1, there.lapsed.max(lapsed)),
            Heard::Owed { .. } => is_owed = true,
            Heard::Refused { .. } => is_refused = true,
        }
    }
    let status = match (is_refused, is_owed) {
        (true, _) => Status::ProxyError,
        (false, true) => Status::ProxyUnreachable,
        (false, false) => Status::Ok,
    };
    let durable = if is_owed { Some(keep_owed(upstreams).await) } else { None };
    let data = Everywhere { acked, lapsed, proxies, durable, limit: is_owed.then_some(LIMIT) };
    Reply { status, ..Reply::json(&data) }
}

async fn tell(upstreams: &Upstreams, node: &Node, changed: Changed<'_>, deadline: Instant) -> Heard {
    let why = match node.state() {
        // It gets no requests before it has done what it owes.
        State::Down => "the node is down".to_owned(),
        _ if node.owes() => "it owes purges already".to_owned(),
        State::Healthy | State::Probing => {
            tokio::select! {
                biased;
                told = tell_while_up(node, changed, deadline) => match told {
                    Ok(at) => return at,
                    Err(why) => why,
                },
                () = goes_down(node) => "the node went down meanwhile".to_owned(),
            }
        }
    };
    let kept = changed.patterns().filter(|pattern| node.owe(|owed| owed.add(*pattern, true))).count();
    node.polls.hasten(upstreams.clock.now());
    if kept == changed.patterns().count() {
        return Heard::Owed { owed: true, why };
    }
    let error = "it owes too many purges already; purge whole resources".to_owned();
    Heard::Refused { error, why }
}

/// Tells a node; the reason if it was not told and may be later.
async fn tell_while_up(node: &Node, changed: Changed<'_>, deadline: Instant) -> Result<Heard, String> {
    loop {
        let line = ask_patiently(node, Request::Changed(changed), deadline).await;
        let line = line.map_err(|error| error.to_string())?;
        let view = ReplyView::parse(&line).map_err(|error| error.to_string())?;
        match view.status {
            Status::Ok => {
                let acked = serde_json::from_str(view.data);
                return acked.map(Heard::Told).map_err(|_| "its answer is none to CHANGED".to_owned());
            }
            Status::WrongMethod => return purge_softly(node, changed, deadline).await,
            Status::Overloaded if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
            Status::Overloaded => return Err("it is overloaded".to_owned()),
            status => {
                let why = serde_json::from_str(view.data).unwrap_or_default();
                return Ok(Heard::Refused { error: status.to_string(), why });
            }
        }
    }
}

/// The same for an older node.
async fn purge_softly(node: &Node, changed: Changed<'_>, deadline: Instant) -> Result<Heard, String> {
    for pattern in changed.patterns() {
        match send(node, Request::Purge { pattern, soft: true }, deadline).await {
            PurgeOutcome::Purged { .. } => {}
            PurgeOutcome::NotDone(why) => return Err(why),
            PurgeOutcome::Overloaded => return Err("it is overloaded".to_owned()),
            PurgeOutcome::Refused(error) => {
                return Ok(Heard::Refused { error, why: "it has no CHANGED".to_owned() });
            }
        }
    }
    Ok(Heard::Told(Acked::ONLY_HERE))
}
