//! The list of nodes: read whole by each request, replaced whole when members change.

use std::sync::Arc;

use smallvec::SmallVec;

use super::balance::{Candidate, FEW};
use super::health::Millis;
use super::node::Node;
use super::polled::WHOLE;
use crate::per_core::PerCore;

/// A node's place in the list.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) node: Arc<Node>,
    /// The same, counted by each core for itself: those who ask it do not wait for other cores' counts.
    pub(super) held: PerCore<Held>,
    /// `host:port`, as the list names it.
    pub(super) name: Arc<str>,
    /// A hash of the name, on which all balancers agree.
    pub(super) id: u64,
    /// 100 is the usual one.
    pub(super) weight: u32,
}

/// A node, held by a request.
pub(super) type Held = Arc<Arc<Node>>;

/// All nodes.
pub(super) struct Nodes(pub(super) Vec<Place>);

/// The identities of nodes that were tried.
pub(super) type Tried = SmallVec<[u64; FEW]>;
/// What may be chosen from.
pub(super) type Candidates = SmallVec<[Candidate; FEW]>;

/// How candidates are seen.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) now: Millis,
    /// Polls that are older are not used.
    pub(super) stale: Millis,
    /// Whether a node of less weight gets fewer keys instead of fewer requests.
    pub(super) by_key: bool,
    /// Whether the strategy looks at what is in flight, at totals, and at latencies: what it does not is not read.
    pub(super) flights: bool,
    pub(super) totals: bool,
    pub(super) latencies: bool,
    /// When fewer than this part are healthy, in percent, all are used.
    pub(super) panic: u32,
}

impl Nodes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    pub(super) fn named(&self, name: &str) -> Option<&Place> {
        self.0.iter().find(|place| &*place.name == name)
    }

    /// Whether another node than this one could take its requests.
    pub(super) fn has_other(&self, than: &Node) -> bool {
        self.iter().any(|place| place.node.identity != than.identity && place.node.is_available())
    }

    /// Whether another node than this one serves: it is there, and its last request did not fail.
    pub(super) fn serves_without(&self, this: &Node) -> bool {
        let serves = |node: &Node| node.is_available() && !node.is_failing();
        self.iter().any(|place| place.node.identity != this.identity && serves(&place.node))
    }

    /// Those that may be asked, best kind first: healthy ones; healthy ones that are suspect; in a panic, all.
    pub(super) fn candidates(&self, tried: &Tried, view: View) -> Candidates {
        if view.panic > 0 && self.panics(view.panic) {
            return self.those(tried, view, |node| node.is_open());
        }
        let candidates = self.those(tried, view, |node| node.is_available() && !node.is_suspect());
        match candidates.is_empty() {
            true => self.those(tried, view, Node::is_available),
            false => candidates,
        }
    }

    fn panics(&self, threshold: u32) -> bool {
        let open = self.iter().filter(|place| place.node.is_open()).count();
        let healthy = self.iter().filter(|place| place.node.is_available()).count();
        healthy * 100 < open * threshold as usize
    }

    fn those(&self, tried: &Tried, view: View, may: impl Fn(&Node) -> bool) -> Candidates {
        let mut candidates = Candidates::new();
        let mut held_back = None;
        let mut all_told = true;
        for (index, place) in self.0.iter().enumerate() {
            let node = &*place.node;
            if !may(node) || tried.contains(&node.identity) {
                continue;
            }
            let total = || node.polled.total_requests(node.latency.sent(), view.now, view.stale);
            let told = if view.totals { total() } else { Some(0) };
            all_told &= told.is_some();
            let mut candidate = Candidate {
                index,
                id: place.id,
                weight: place.weight,
                in_flight: if view.flights { node.in_flight() } else { 0 },
                total: told.unwrap_or_default(),
                latency_us: if view.latencies { node.latency.average_us(view.now) } else { 0 },
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
        if !all_told {
            // A total that was told and one that was not cannot be compared: then what we sent counts.
            for candidate in &mut candidates {
                candidate.total = self.0[candidate.index].node.latency.sent();
            }
        }
        candidates
    }
}
