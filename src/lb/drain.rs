//! DRAIN and UNDRAIN: a node gets no new requests, or gets them again.

use serde::Serialize;
use tracing::info;

use super::balance::Load;
use super::metrics::state_of;
use super::nodes::Nodes;
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
}

/// Drains the node of this name, or ends that.
pub(super) fn drain(nodes: &Nodes, name: &str, draining: bool) -> Reply {
    let Some(member) = nodes.named(name) else {
        return no_such_node(nodes);
    };
    let node = &*member.node;
    if node.drain(draining) {
        let news = match draining {
            true => "the node drains: it gets no new requests",
            false => "the node takes requests again",
        };
        info!(node = name, "{news}");
    }
    Reply::json(&Drained { node: &member.name, state: state_of(node), in_flight: node.in_flight() })
}
