//! The choice of a node for a key: the strategy, and the nodes as they stand.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use super::balance::{Balance, Pick, Strategy};
use super::clock::Millis;
use super::members::Membership;
use super::nodes::{Member, Tried};
use super::standing::{Standing, View};
use crate::wire::Key;

/// The strategy of this balancer with its state, and what it may choose from.
pub(super) struct Choice {
    strategy: Strategy,
    balance: Box<dyn Balance>,
    view: View,
    /// Derived anew by the first request after a change.
    standing: ArcSwap<Standing>,
}

impl Choice {
    /// METRICS count for three health intervals.
    pub(super) fn new(strategy: Strategy, health_interval: Duration, panic_threshold: u32) -> Self {
        let balance = strategy.build();
        let view = View {
            stale: 3 * health_interval.as_millis() as Millis,
            by_key: balance.goes_by_key(),
            panic: panic_threshold,
        };
        Self { strategy, balance, view, standing: ArcSwap::from_pointee(Standing::none()) }
    }

    /// The nodes as they stand, for a moment: not to be held across an await.
    pub(super) fn standing(&self, members: &Membership, now: Millis) -> Guard<Arc<Standing>> {
        let standing = self.standing.load();
        // Read before the nodes: a change that comes between the two is seen by the next request.
        let changes = members.changes();
        if standing.changes == changes {
            return standing;
        }
        let standing = Arc::new(Standing::of(members.nodes_kept(), changes, self.view, now));
        self.standing.store(standing.clone());
        Guard::from_inner(standing)
    }

    /// The node for a request; it takes a turn.
    pub(super) fn pick<'s>(
        &self,
        key: Key<'_>,
        standing: &'s Standing,
        tried: &Tried,
        now: Millis,
    ) -> Option<&'s Member> {
        standing.choose(tried, |among, may| self.balance.pick(&Pick { key, now, may }, among))
    }

    /// The node that a request would go to; takes no turn.
    pub(super) fn peek<'s>(&self, key: Key<'_>, standing: &'s Standing, now: Millis) -> Option<&'s Member> {
        self.peek_beside(key, standing, &Tried::new(), u64::MAX, now)
    }

    /// A node for a second attempt beside one that is open, with fewer than `below` requests in flight; takes no turn.
    pub(super) fn peek_beside<'s>(
        &self,
        key: Key<'_>,
        standing: &'s Standing,
        tried: &Tried,
        below: u64,
        now: Millis,
    ) -> Option<&'s Member> {
        standing.choose(tried, |among, may| {
            let may = |candidate: &_| may(candidate) && candidate.has_fewer_than(below);
            self.balance.peek(&Pick { key, now, may: &may }, among)
        })
    }

    pub(super) fn strategy(&self) -> &'static str {
        self.strategy.as_str()
    }

    /// The strategy itself: requests report to it, and it says what may be done with a key.
    pub(super) fn balance(&self) -> &dyn Balance {
        &*self.balance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::LbConfig;
    use crate::lb::clock::Clock;
    use crate::lb::members::Wanted;
    use crate::lb::node::Node;
    use crate::wire::Pattern;

    fn members(count: usize) -> Membership {
        let members = Membership::new(&LbConfig::default(), Clock::start());
        let wanted = |index: usize| {
            let name = format!("10.0.{}.{}:8001", index / 250, index % 250);
            let peer: crate::net::link::Peer = name.parse().unwrap();
            Wanted { name, listed: peer.clone(), peer, weight: 100, drained: false }
        };
        members.replace(&(0..count).map(wanted).collect::<Vec<_>>());
        members
    }

    fn choice(strategy: Strategy) -> Choice {
        Choice::new(strategy, Duration::from_secs(2), 0)
    }

    /// A request at its whole length, and one that was tried at a node already.
    fn request(choice: &Choice, members: &Membership) {
        let key = Key::parse("article/1").unwrap();
        let standing = choice.standing(members, 0);
        let first = choice.pick(key, &standing, &Tried::new(), 0).unwrap();
        first.node.latency.begin();
        choice.balance().sent(key, first.id, &*first.node);
        let tried = Tried::from_slice(&[first.node.identity]);
        let beside = choice.peek_beside(key, &standing, &tried, 1, 0).unwrap();
        let second = choice.pick(key, &standing, &tried, 0).unwrap();
        assert!(beside.id != first.id && second.id != first.id);
        first.node.latency.end();
        choice.balance().ended(key, first.id, &*first.node, Some(true));
    }

    #[test]
    fn a_request_beside_a_thousand_nodes_allocates_nothing() {
        let members = members(1_000);
        for strategy in Strategy::ALL {
            let choice = choice(strategy);
            request(&choice, &members);
            let made = allocation_counter::measure(|| (0..100).for_each(|_| request(&choice, &members)));
            assert_eq!(made.count_total, 0, "{strategy:?}");
        }
    }

    #[test]
    fn a_look_that_finds_nobody_loses_no_load_and_requests_at_suspect_nodes_are_no_load() {
        let key = Key::parse("article/1").unwrap();
        let (members, least) = (members(20), choice(Strategy::LeastLoaded));
        let standing = least.standing(&members, 0);
        let nodes = members.nodes();
        let all: Tried = nodes.iter().map(|member| member.node.identity).collect();
        let first = least.pick(key, &standing, &Tried::new(), 0).unwrap().id;
        assert!(least.peek_beside(key, &standing, &all, 1, 0).is_none());
        for member in nodes.iter().filter(|member| member.id != first) {
            member.node.latency.begin();
            least.balance().sent(key, member.id, &*member.node);
        }
        assert_eq!(least.pick(key, &standing, &Tried::new(), 0).unwrap().id, first, "all others have one");

        let hash = choice(Strategy::Hash);
        let (other, beside) = (&nodes.0[1].node, || hash.standing(&members, 1).in_flight_beside());
        other.suspect(1);
        assert_eq!((other.latency.in_flight(), beside()), (1, 1));
        other.trust();
        assert_eq!(beside(), 0);
    }

    #[test]
    fn every_change_of_a_node_is_seen_by_the_next_request_and_nothing_else_is_derived_anew() {
        type Change = fn(&Node);
        let changes: [(&str, Change, Change); 4] = [
            ("drained", |node| _ = node.drain(true), |node| _ = node.drain(false)),
            ("suspect", |node| _ = node.suspect(1), Node::trust),
            (
                "down",
                |node| node.change(1, |health| health.lost("no address", 1)),
                |node| {
                    node.change(1, |health| health.is_needed(1));
                    node.set_share(100);
                },
            ),
            (
                "owes",
                |node| _ = node.owe(|owed| owed.add(Pattern::parse("a/*").unwrap(), false)),
                |node| node.owe(|owed| *owed = crate::lb::owed::Owed::default()),
            ),
        ];
        let (members, choice) = (members(3), choice(Strategy::RoundRobin));
        let node = members.nodes().0[1].node.clone();
        let key = Key::parse("article/1").unwrap();
        let gets_requests = || {
            (0..3).any(|_| {
                let standing = choice.standing(&members, 1);
                choice.pick(key, &standing, &Tried::new(), 1).unwrap().node.identity == node.identity
            })
        };
        assert!(gets_requests());
        for (state, begin, end) in changes {
            begin(&node);
            assert!(!gets_requests(), "{state}");
            end(&node);
            assert!(gets_requests(), "no longer {state}");
        }
        let before = Guard::into_inner(choice.standing(&members, 1));
        node.trust();
        node.set_share(100);
        node.answered(Duration::ZERO, true, 1);
        assert!(Arc::ptr_eq(&before, &choice.standing(&members, 1)));
        members.replace(&[]);
        assert!(choice.pick(key, &choice.standing(&members, 1), &Tried::new(), 1).is_none());
    }
}
