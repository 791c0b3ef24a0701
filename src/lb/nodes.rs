//! The list of nodes: read whole by each request, replaced whole when members change.

use std::sync::Arc;

use smallvec::SmallVec;

use super::balance::{Candidate, FEW, Reads};
use super::clock::Millis;
use super::node::Node;
use super::polled::WHOLE;
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
pub(super) type Tried = SmallVec<[u64; FEW]>;
/// The nodes that a strategy may choose from.
pub(super) type Candidates = SmallVec<[Candidate; FEW]>;

/// What a strategy wants to know of candidates.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) now: Millis,
    /// The age from which METRICS of a node are not used.
    pub(super) stale: Millis,
    /// Whether the strategy chooses by key: then a node with a part of its share gets fewer keys, not fewer requests.
    pub(super) by_key: bool,
    pub(super) reads: Reads,
    /// In percent: when fewer of the nodes are healthy, unhealthy ones are candidates too. 0 turns this off.
    pub(super) panic: u32,
}

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

    /// The available nodes that are not suspect; if there are none, the suspect ones. In a panic, all open nodes.
    pub(super) fn candidates(&self, tried: &Tried, view: View) -> Candidates {
        if view.panic > 0 && self.panics(view.panic) {
            return self.collect(tried, view, |node| node.is_open());
        }
        let candidates = self.collect(tried, view, |node| node.is_available() && !node.is_suspect());
        match candidates.is_empty() {
            true => self.collect(tried, view, Node::is_available),
            false => candidates,
        }
    }

    fn panics(&self, threshold: u32) -> bool {
        let open = self.iter().filter(|member| member.node.is_open()).count();
        let healthy = self.iter().filter(|member| member.node.is_available()).count();
        healthy * 100 < open * threshold as usize
    }

    fn collect(&self, tried: &Tried, view: View, may: impl Fn(&Node) -> bool) -> Candidates {
        let mut candidates = Candidates::new();
        let mut held_back = None;
        let mut all_known = true;
        for (index, member) in self.0.iter().enumerate() {
            let node = &*member.node;
            if !may(node) || tried.contains(&node.identity) {
                continue;
            }
            let total = || node.polled.total_requests(node.latency.sent(), view.now, view.stale);
            let known = if view.reads.total { total() } else { Some(0) };
            all_known &= known.is_some();
            let mut candidate = Candidate {
                index,
                id: member.id,
                weight: member.weight,
                in_flight: if view.reads.in_flight { node.in_flight() } else { 0 },
                total: known.unwrap_or_default(),
                latency_us: if view.reads.latency { node.latency.average_us(view.now) } else { 0 },
            };
            let share = node.share();
            if share < WHOLE && view.by_key {
                candidate.weight = (candidate.weight * share / WHOLE).max(1);
            } else if share < WHOLE && fastrand::u32(..WHOLE) >= share {
                held_back = Some(candidate);
                continue;
            }
            candidates.push(candidate);
        }
        if candidates.is_empty() {
            candidates.extend(held_back);
        }
        if !all_known {
            // The total of one node cannot be compared with an unknown one: then the requests that we sent count for all.
            for candidate in &mut candidates {
                candidate.total = self.0[candidate.index].node.latency.sent();
            }
        }
        candidates
    }
}
