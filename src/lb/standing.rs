//! Which nodes may get requests, as they stand. It is derived from the nodes once a change, not once a request: a request
//! costs the same beside three nodes or a thousand.

use std::sync::Arc;

use super::balance::{Candidate, Candidates, Load};
use super::clock::Millis;
use super::health::State;
use super::node::Node;
use super::nodes::{Member, Nodes, Tried};

/// How candidates are derived from nodes.
#[derive(Clone, Copy)]
pub(super) struct View {
    /// The age from which METRICS of a node are not used.
    pub(super) stale: Millis,
    /// Whether the strategy chooses by key.
    pub(super) by_key: bool,
    /// In percent: when fewer of the nodes are healthy, unhealthy ones are candidates too. 0 turns this off.
    pub(super) panic: u32,
}

/// The candidates among the nodes of one list.
pub(super) struct Standing {
    nodes: Arc<Nodes>,
    /// The count of changes that this takes in.
    pub(super) changes: u64,
    /// The available nodes that are not suspect. In a panic, all open nodes.
    preferred: Candidates,
    /// The suspect ones, for when nothing else is left.
    suspect: Candidates,
    /// The indices of nodes that wait for the one request that tries them.
    probing: Vec<usize>,
}

impl Standing {
    /// No nodes.
    pub(super) fn none() -> Self {
        let none = || Candidates::new(Vec::new(), false, false);
        let nodes = Arc::new(Nodes(Vec::new()));
        Self { nodes, changes: u64::MAX, preferred: none(), suspect: none(), probing: Vec::new() }
    }

    /// How the nodes stand; `changes` was read before them.
    pub(super) fn of(nodes: Arc<Nodes>, changes: u64, view: View, now: Millis) -> Self {
        let those = |may: &dyn Fn(&Node) -> bool| candidates(&nodes, view, now, may);
        let (preferred, suspect) = match view.panic > 0 && nodes.panics(view.panic) {
            true => (those(&Node::is_open), those(&|_| false)),
            false => (
                those(&|node| node.is_available() && !node.is_suspect()),
                those(&|node| node.is_available() && node.is_suspect()),
            ),
        };
        let is_probing = |member: &Member| member.node.state() == State::Probing;
        let probing = (0..nodes.0.len()).filter(|&index| is_probing(&nodes.0[index])).collect();
        Self { changes, preferred, suspect, probing, nodes }
    }

    /// The nodes that wait for a trial.
    pub(super) fn probing(&self) -> impl Iterator<Item = &Member> {
        self.probing.iter().map(|&index| &self.nodes.0[index])
    }

    #[cfg(test)]
    pub(super) fn in_flight_beside(&self) -> u64 {
        self.preferred.in_flight_beside()
    }

    /// The member that `choose` finds among the candidates that were not tried: among the suspect ones if it finds none
    /// among the others.
    pub(super) fn choose(
        &self,
        tried: &Tried,
        choose: impl Fn(&Candidates, &dyn Fn(&Candidate) -> bool) -> Option<usize>,
    ) -> Option<&Member> {
        let may = |candidate: &Candidate| {
            tried.is_empty() || !tried.contains(&self.nodes.0[candidate.index].node.identity)
        };
        let lists = [&self.preferred, &self.suspect];
        let index = lists.iter().filter(|list| !list.all().is_empty()).find_map(|list| choose(list, &may))?;
        self.nodes.0.get(index)
    }
}

fn candidates(nodes: &Nodes, view: View, now: Millis, may: &dyn Fn(&Node) -> bool) -> Candidates {
    let members = || nodes.0.iter().enumerate().filter(|(_, member)| may(&member.node));
    // The total of one node cannot be compared with an unknown one: then the requests that we sent count for all.
    let are_reported = members().all(|(_, member)| member.node.polled.is_reported(now, view.stale));
    let candidate = |(index, member): (usize, &Member)| Candidate {
        index,
        id: member.id,
        weight: member.weight,
        share: member.node.share(),
        load: member.node.clone(),
    };
    // A strategy by key compares with the load of all nodes, also of those that are no candidates.
    let others =
        nodes.iter().filter(|member| view.by_key && !may(&member.node) && member.node.in_flight() > 0);
    let beside = others.map(|member| member.node.clone() as Arc<dyn Load>).collect();
    Candidates::new(members().map(candidate).collect(), view.by_key, are_reported).beside(beside)
}
