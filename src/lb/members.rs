//! The nodes there are: each request reads the list whole, a change of members replaces it whole.
//!
//! A node that stays keeps its health, counts and connections; one that leaves still answers the requests it has.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, Guard};
use tracing::info;

use super::balance::{Load, hash_of};
use super::changes::Changes;
use super::clock::Clock;
use super::config::LbConfig;
use super::drained_file::DrainedFile;
use super::health::Rules;
use super::node::Node;
use super::nodes::{Member, Nodes};
use super::owed::Owed;
use super::owed_file::{Debts, OwedFile};
use crate::lock::lock;
use crate::net::link::Peer;
use crate::net::{Link, LinkError, LinkLimits};
use crate::per_core::PerCore;
use crate::wire::Pattern;

/// A node that the list shall have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    /// `host:port`, as METRICS name it.
    pub(super) name: String,
    /// The line of the list that it comes from.
    pub(super) listed: Peer,
    /// Its address.
    pub(super) peer: Peer,
    /// In hundredths.
    pub(super) weight: u32,
    /// The list says that it gets no new requests.
    pub(super) drained: bool,
}

/// The limit of nodes that left the list and whose debts are kept.
const MOST_ABSENT: usize = 256;

/// The purges of nodes that are not in the list.
struct Purges {
    /// All since the start: a node that joins owes them, as it may have been in use before.
    all: Owed,
    /// What nodes owed when they left the list, or when the balancer before this one ended.
    absent: Debts,
}

impl Purges {
    /// What a node of this address owes from before.
    fn collect(&mut self, peer: &Peer) -> Owed {
        let mut owed = self.absent.remove(&peer.to_string()).unwrap_or_default();
        // A name may stand for any of the addresses. A purge too many costs fetches, never a wrong document.
        let is_name = |node: &str| node.parse::<SocketAddr>().is_err();
        let is_named = is_name(&peer.to_string());
        self.absent
            .iter()
            .filter(|(node, _)| is_named || is_name(node))
            .for_each(|(_, others)| owed.add_all(others));
        owed
    }
}

/// The current list of nodes.
pub(super) struct Membership {
    clock: Clock,
    nodes: ArcSwap<Nodes>,
    purges: Mutex<Purges>,
    /// Keeps what is owed over a restart.
    owed_file: Option<OwedFile>,
    /// Keeps which nodes are drained over a restart.
    drained_file: Option<DrainedFile>,
    /// The names of nodes that were drained before the restart, and are not in the list yet.
    drained_before: Mutex<BTreeSet<String>>,
    changes: Arc<Changes>,
    link: LinkLimits,
    rules: Rules,
    cores: usize,
}

impl Membership {
    /// A list without nodes.
    pub(super) fn new(config: &LbConfig, clock: Clock) -> Self {
        let rules = Rules {
            fails: config.max_failures.max(1),
            rises: config.rises.max(1),
            backoff: config.backoff,
            max_backoff: config.max_backoff,
            starts_slowly: !config.slow_start.is_zero(),
        };
        let owed_file = config.state_dir.as_deref().map(OwedFile::within);
        let drained_file = config.state_dir.as_deref().map(DrainedFile::within);
        let drained_before = drained_file.as_ref().map(DrainedFile::read).unwrap_or_default();
        let absent = owed_file.as_ref().map(OwedFile::read).unwrap_or_default();
        Self {
            clock,
            nodes: ArcSwap::from_pointee(Nodes(Vec::new())),
            purges: Mutex::new(Purges { all: Owed::default(), absent }),
            owed_file,
            drained_file,
            drained_before: Mutex::new(drained_before),
            changes: Arc::default(),
            link: config.link.clone(),
            rules,
            cores: config.cores(),
        }
    }

    /// The list, for a moment: not to be held across an await.
    pub(super) fn nodes(&self) -> Guard<Arc<Nodes>> {
        self.nodes.load()
    }

    /// The list, to be kept.
    pub(super) fn nodes_kept(&self) -> Arc<Nodes> {
        self.nodes.load_full()
    }

    /// Replaces the list. Nodes of the first list get requests at once; each later one needs a successful poll first.
    ///
    /// While a name has the address of a node, that node keeps its name, and so its share of the keys, however many other
    /// addresses the name has. A node that was drained before its name was resolved stays drained.
    pub(super) fn replace(&self, wanted: &[Wanted]) {
        // Held until the list is replaced: a purge goes to the nodes of the new list, or a node that joins owes it.
        let mut purges = lock(&self.purges);
        let old = self.nodes.load_full();
        let is_first = old.0.is_empty();
        let find = |peer: &Peer| old.iter().find(|member| member.node.link().peer() == peer);
        let any_stays = wanted.iter().any(|wanted| find(&wanted.peer).is_some());
        let member = |wanted: &Wanted| {
            let node = find(&wanted.peer).map(|member| member.node.clone()).unwrap_or_else(|| {
                let node = self.node(wanted.peer.clone());
                let mut before = purges.collect(&wanted.peer);
                if !is_first {
                    info!(node = wanted.name, "the node joins");
                    before.add_all(&purges.all);
                }
                node.owe(|owed| *owed = before);
                if any_stays {
                    node.join(self.clock.now());
                }
                let was_unresolved =
                    find(&wanted.listed).is_some_and(|unresolved| unresolved.node.drains().are_told());
                node.drain(was_unresolved || lock(&self.drained_before).remove(&wanted.name));
                node
            });
            if node.drains().list(wanted.drained) {
                info!(
                    node = wanted.name,
                    drained = wanted.drained,
                    "the list says whether the node gets requests"
                );
            }
            let stays = find(&wanted.peer).filter(|member| member.listed == wanted.listed);
            let name = stays.map_or_else(|| wanted.name.as_str().into(), |member| member.name.clone());
            let (id, listed) = (hash_of(name.as_bytes()), wanted.listed.clone());
            let held = PerCore::new(self.cores, || Arc::new(node.clone()));
            Member { name, listed, id, weight: wanted.weight, node, held }
        };
        let nodes = Nodes(wanted.iter().map(member).collect());
        for gone in old.iter().filter(|old| nodes.iter().all(|new| new.node.identity != old.node.identity)) {
            info!(node = &*gone.name, in_flight = gone.node.in_flight(), "the node leaves");
            if gone.node.owes() && purges.absent.len() < MOST_ABSENT {
                purges.absent.insert(gone.node.link().peer().to_string(), gone.node.owe(|owed| owed.clone()));
            }
        }
        self.nodes.store(Arc::new(nodes));
        self.changes.note();
    }

    fn node(&self, peer: Peer) -> Arc<Node> {
        let link = Link::new(peer, self.link.clone());
        Arc::new(Node::new(link, self.rules, self.cores, self.clock.now(), self.changes.clone()))
    }

    /// Takes down the nodes whose names have no address. Only a successful poll brings one back.
    pub(super) fn lose(&self, lost: &[Peer]) {
        let now = self.clock.now();
        for member in self.nodes().iter().filter(|member| lost.contains(member.node.link().peer())) {
            member.node.change(now, |health| health.lost(&LinkError::Unresolved.to_string(), now));
        }
    }

    /// Remembers a purge for nodes that join later, and gives the nodes that are to do it now.
    pub(super) fn note_purge(&self, pattern: Pattern<'_>, soft: bool) -> Arc<Nodes> {
        let mut purges = lock(&self.purges);
        purges.all.add(pattern, soft);
        self.nodes.load_full()
    }

    /// Whether there is a file for what is owed.
    pub(super) fn keeps_owed(&self) -> bool {
        self.owed_file.is_some()
    }

    /// Writes what all nodes owe; true when that survives a restart. Blocks.
    pub(super) fn keep_owed(&self) -> bool {
        let debts = || {
            let mut debts = lock(&self.purges).absent.clone();
            for member in self.nodes().iter().filter(|member| member.node.owes()) {
                debts.insert(member.node.link().peer().to_string(), member.node.owe(|owed| owed.clone()));
            }
            debts
        };
        self.owed_file.as_ref().is_some_and(|file| file.write(debts))
    }

    /// Whether anything is kept over a restart.
    pub(super) fn keeps_state(&self) -> bool {
        self.drained_file.is_some()
    }

    /// Writes which nodes an operator has drained; true when that survives a restart. Blocks.
    pub(super) fn keep_drained(&self) -> bool {
        let names = || {
            let mut names = lock(&self.drained_before).clone();
            let nodes = self.nodes();
            let drained = nodes.iter().filter(|member| member.node.drains().are_told());
            names.extend(drained.map(|member| member.name.to_string()));
            names
        };
        self.drained_file.as_ref().is_some_and(|file| file.write(names))
    }

    /// A request failed at a node. The last healthy one stays healthy until a poll fails as well.
    pub(super) fn request_failed(&self, node: &Node, why: &str) {
        node.request_failed(why, self.clock.now(), self.nodes().has_other(node));
    }

    /// The count of changes to the list and its nodes; see [`Changes`].
    pub(super) fn changes(&self) -> u64 {
        self.changes.count()
    }

    /// Notes a change that no node knows of: what is derived from the nodes is derived anew.
    pub(super) fn note_change(&self) {
        self.changes.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name_and_stays_drained_while_its_name_has_its_address() {
        let members = Membership::new(&LbConfig::default(), Clock::start());
        let wanted = |name: &str, peer: &str| Wanted {
            name: name.to_owned(),
            listed: "p:1".parse().unwrap(),
            peer: peer.parse().unwrap(),
            weight: 100,
            drained: false,
        };
        let seen = || -> Vec<(String, bool)> {
            let each = |member: &Member| (member.name.to_string(), member.node.is_draining());
            members.nodes().iter().map(each).collect()
        };
        members.replace(&[wanted("p:1", "p:1")]);
        members.nodes().iter().for_each(|member| assert!(member.node.drain(true)));
        members.replace(&[wanted("p:1", "10.0.0.1:1")]);
        assert_eq!(seen(), [("p:1".to_owned(), true)], "the name is resolved");
        let id = members.nodes().0[0].id;
        members.replace(&[wanted("10.0.0.1:1", "10.0.0.1:1"), wanted("10.0.0.2:1", "10.0.0.2:1")]);
        assert_eq!(seen(), [("p:1".to_owned(), true), ("10.0.0.2:1".to_owned(), false)]);
        assert_eq!(members.nodes().0[0].id, id, "it keeps its keys");
        members.replace(&[wanted("p:1", "10.0.0.3:1")]);
        assert_eq!(seen(), [("p:1".to_owned(), false)], "another address is another node");
    }
}
