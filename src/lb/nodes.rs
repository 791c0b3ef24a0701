//! The list of nodes: read whole by each request, replaced whole when members change.

use std::sync::Arc;

use smallvec::SmallVec;

use super::node::Node;
use crate::net::link::Peer;
use crate::per_core::PerCore;

/// One node of the list.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) node: Arc<Node>,
    /// One extra `Arc` per core around `node`, so that cloning it for a request does not bounce the reference count between
    /// cores.
    pub(super) held: PerCore<Held>,
    /// `host:port`, as the list names it.
    pub(super) name: Arc<str>,
    /// The line of the list that it comes from.
    pub(super) listed: Peer,
    /// A hash of the name, on which all balancers agree.
    pub(super) id: u64,
    /// In hundredths: 100 is a weight of 1.
    pub(super) weight: u32,
}

/// A node, held by a request.
pub(super) type Held = Arc<Arc<Node>>;

/// All nodes.
pub(super) struct Nodes(pub(super) Vec<Member>);

/// The identities of the nodes that a request was sent to.
pub(super) type Tried = SmallVec<[u64; 8]>;

impl Nodes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    pub(super) fn named(&self, name: &str) -> Option<&Member> {
        self.0.iter().find(|member| &*member.name == name)
    }

    /// Whether another node could take the requests of this one.
    pub(super) fn has_other(&self, than: &Node) -> bool {
        self.others(than).any(Node::is_available)
    }

    /// Whether another node serves: it is available, and its last request did not fail.
    pub(super) fn serves_without(&self, this: &Node) -> bool {
        self.others(this).any(|node| node.is_available() && !node.is_failing())
    }

    /// Whether a healthy node gets no requests because it owes purges.
    pub(super) fn any_owes(&self) -> bool {
        self.iter().any(|member| member.node.is_healthy() && member.node.owes())
    }

    fn others(&self, than: &Node) -> impl Iterator<Item = &Node> {
        let identity = than.identity;
        self.iter().map(|member| &*member.node).filter(move |node| node.identity != identity)
    }

    /// Whether less than `threshold` percent of the open nodes are healthy.
    pub(super) fn panics(&self, threshold: u32) -> bool {
        let open = self.iter().filter(|member| member.node.is_open()).count();
        let healthy = self.iter().filter(|member| member.node.is_available()).count();
        healthy * 100 < open * threshold as usize
    }
}
