//! DRAIN and UNDRAIN: a node gets no new requests, or gets them again.

use std::sync::Arc;

use serde::Serialize;
use tracing::info;

use super::balance::Load;
use super::metrics::state_of;
use super::nodes::Nodes;
use super::upstreams::Upstreams;
use crate::handler::Answer;
use crate::pool;
use crate::wire::{Reply, Status};

/// The most nodes that a refusal names.
const NAMED: usize = 16;

/// The refusal of a name that is not in the list.
pub(super) fn no_such_node(nodes: &Nodes) -> Reply {
    let names: Vec<&str> = nodes.iter().take(NAMED).map(|member| &*member.name).collect();
    let (names, more) = (names.join(", "), if nodes.0.len() > NAMED { ", …; METRICS names all" } else { "" });
    Reply::text(Status::BadRequest, format!("this balancer has no such node; it has {names}{more}"))
}

/// The `data` of the reply.
#[derive(Serialize)]
struct Drained<'a> {
    node: &'a str,
    state: &'static str,
    in_flight: u64,
    /// Only with a `--state-dir`: whether a restart of the balancer knows of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<bool>,
}

/// What an operator wants of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// No new requests, unless no other node gets any.
    Drain,
    /// No new requests, whatever that leaves.
    DrainByForce,
    /// Requests again.
    Undrain,
}

/// Drains the node of this name, or ends that. The reply comes once that is kept, where it is to be kept.
pub(super) fn drain(upstreams: &Arc<Upstreams>, name: &str, wish: Wish) -> Answer {
    let nodes = upstreams.members.nodes();
    let Some(member) = nodes.named(name) else {
        return Answer::Now(no_such_node(&nodes));
    };
    let node = &*member.node;
    let refused = |why: &str| Answer::Now(Reply::text(Status::BadRequest, why.to_owned()));
    if wish == Wish::Drain && node.is_available() && !nodes.has_other(node) {
        return refused(
            "it is the last proxy that gets requests; DRAIN force <host:port> drains it all the same",
        );
    }
    if wish == Wish::Undrain && node.drains().are_listed() {
        return refused("its line in the list file says drain; take that word away there");
    }
    let draining = wish != Wish::Undrain;
    if node.drain(draining) {
        let news = match draining {
            true => "the node drains: it gets no new requests",
            false => "the node takes requests again",
        };
        info!(node = name, "{news}");
    }
    if !upstreams.members.keeps_state() {
        return Answer::Now(reply(upstreams, name, None));
    }
    let (upstreams, name) = (upstreams.clone(), name.to_owned());
    Answer::later(async move {
        let members = upstreams.clone();
        let kept = pool::run(move || members.members.keep_drained()).await.unwrap_or(false);
        reply(&upstreams, &name, Some(kept))
    })
}

fn reply(upstreams: &Upstreams, name: &str, kept: Option<bool>) -> Reply {
    let nodes = upstreams.members.nodes();
    match nodes.named(name) {
        None => no_such_node(&nodes),
        Some(member) => {
            let (state, in_flight) = (state_of(&member.node), member.node.in_flight());
            Reply::json(&Drained { node: &member.name, state, in_flight, kept })
        }
    }
}
