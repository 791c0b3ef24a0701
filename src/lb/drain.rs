//! DRAIN and UNDRAIN: a node gets no new requests, or gets them again.

use serde::Serialize;
use tracing::info;

use super::balance::Load;
use super::metrics::state_of;
use super::nodes::Nodes;
use crate::wire::{Reply, Status};

/// The refusal of a name that is not in the list.
pub(super) const NO_SUCH_NODE: &str = "this balancer has no such node; METRICS names them";

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
        return Reply::text(Status::BadRequest, NO_SUCH_NODE);
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
