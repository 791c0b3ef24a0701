//! Active health checks: METRICS of every node, in parallel, each when its time has come and under a deadline.
//!
//! A node that is not healthy is polled faster; a suspect one is polled at once, with little time to answer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::clock::Millis;
use super::health::State;
use super::latency::Counts;
use super::node::Node;
use super::nodes::Nodes;
use super::polled::Report;
use super::polls::PollUnderWay;
use super::purge::settle;
use super::upstreams::Upstreams;
use crate::blame::Fault;
use crate::net::LinkError;
use crate::stats::ratio;
use crate::wire::{ReplyView, Request};

/// The longest deadline of a poll; it is the health interval where that is shorter.
const POLL_DEADLINE: Duration = Duration::from_secs(1);
/// The shortest deadline of the poll of a suspect node.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);
/// A poll begins late by up to this part of the interval, so that balancers do not poll in step.
const JITTER: f64 = 0.1;
/// The longest time between two polls of a node that is not healthy.
const FAST: Duration = Duration::from_millis(500);
/// The time between two looks at all nodes.
const STEP: Duration = Duration::from_millis(50);
/// The length of a window of latencies.
const WINDOW: Millis = 5_000;
/// The least number of answers of its peers from which the patience with a node is learned.
const ENOUGH: u64 = 100;
/// The least time before a hedge.
const LEAST_HEDGE_US: u64 = 1_000;
/// A node is suspect after three times the 99th percentile of its peers, within these bounds.
const SILENCE_US: (u64, u64) = (25_000, 1_000_000);

/// Polls the nodes, for ever.
pub(super) async fn run(upstreams: &Arc<Upstreams>) {
    let step = STEP.min(upstreams.health_interval / 4).max(Duration::from_millis(1));
    let mut steps = interval(step);
    // After a standstill of this process one look is enough: no burst of those that were missed.
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turned = upstreams.clock.now();
    let mut tuned = turned;
    loop {
        tokio::select! {
            biased;
            _ = steps.tick() => {}
            () = upstreams.attention.notified() => {}
        }
        let now = upstreams.clock.now();
        let nodes = upstreams.members.nodes_kept();
        for member in nodes.iter() {
            attend_to(upstreams, &member.node, now);
        }
        upstreams.note_requests();
        // As often beside few nodes as they are looked at; a walk through the latencies of a thousand takes long.
        if now >= tuned + nodes.0.len() as Millis {
            tuned = now;
            tune(&nodes, now, upstreams.slow_start);
        }
        if upstreams.choice.balance().keeps_loads() {
            upstreams.members.note_change();
        }
        if now >= turned + WINDOW {
            turned = now;
            nodes.iter().for_each(|member| member.node.latency.turn());
        }
    }
}

/// Begins a poll of a node whose time has come.
fn attend_to(upstreams: &Arc<Upstreams>, node: &Arc<Node>, now: Millis) {
    let is_suspect = node.is_suspect();
    let Some(poll) = node.polls.begin(now, is_suspect) else { return };
    let interval = match node.state() {
        State::Healthy if !node.owes() => upstreams.health_interval,
        State::Healthy | State::Down | State::Probing => upstreams.health_interval.min(FAST),
    };
    let late = interval.mul_f64(JITTER * fastrand::f64());
    let deadline = match is_suspect {
        true => {
            // Two round trips. A node that is far away needs longer for them, as its latencies show.
            let worst = Duration::from_micros(node.latency.counts().quantile_us(0.99));
            SIGN_OF_LIFE.max(4 * worst).min(POLL_DEADLINE)
        }
        false => usual_deadline(upstreams),
    };
    node.polls.next_at(now + (interval + late).as_millis() as Millis);
    begin(upstreams, node, poll, deadline, is_suspect);
}

/// The deadline of the poll of a node that is not suspect.
fn usual_deadline(upstreams: &Upstreams) -> Duration {
    upstreams.health_interval.min(POLL_DEADLINE)
}

/// Polls a node as soon as no poll of it is under way. The poll goes on if this is dropped.
pub(super) async fn poll_now(upstreams: &Arc<Upstreams>, node: &Arc<Node>) {
    let poll = node.polls.begin_next().await;
    // A task that panicked has learned nothing.
    let _ = begin(upstreams, node, poll, usual_deadline(upstreams), false).await;
}

fn begin(
    upstreams: &Arc<Upstreams>,
    node: &Arc<Node>,
    poll: PollUnderWay,
    deadline: Duration,
    is_suspect: bool,
) -> JoinHandle<()> {
    let (upstreams, node) = (upstreams.clone(), node.clone());
    tokio::spawn(async move {
        check(&upstreams, &node, deadline, is_suspect).await;
        drop(poll);
    })
}

/// What a poll says of its node.
enum Finding {
    Well(Report),
    /// It lives. Its METRICS are missing, for a reason that says nothing else of it.
    Lives,
    /// This balancer could not ask.
    Nothing,
    Failed(String),
}

/// Asks a node for its METRICS and takes over what they, or their absence, say of it.
async fn check(upstreams: &Arc<Upstreams>, node: &Node, deadline: Duration, is_suspect: bool) {
    let began = upstreams.clock.now();
    let finding = match ask(node, deadline, is_suspect).await {
        Ok(line) => judge(&line),
        Err(error) => match Fault::of_poll(error, node.last_word() > began) {
            Fault::Ours => Finding::Nothing,
            Fault::Full | Fault::Document | Fault::Doubt => Finding::Lives,
            Fault::Source => Finding::Failed(error.to_string()),
        },
    };
    let now = upstreams.clock.now();
    match finding {
        Finding::Well(report) => {
            node.trust();
            node.heard(now);
            node.polled.note(report, node.latency.sent(), now);
            if node.owes() && !settle(upstreams, node).await {
                return;
            }
            let is_needed = !upstreams.members.nodes().serves_without(node);
            node.change(now, |health| match is_needed {
                true => health.is_needed(now),
                false => health.poll_succeeded(now),
            });
        }
        Finding::Lives => {
            node.trust();
            node.heard(now);
        }
        Finding::Nothing => {}
        Finding::Failed(why) if is_suspect => {
            let may_eject = upstreams.members.nodes().has_other(node);
            node.trust();
            node.change(now, |health| health.stalled(&why, now, may_eject, fastrand::f64()));
        }
        Finding::Failed(why) => {
            // One that is silent has had its time: without requests, intervals between the polls would only add to that. One that
            // refuses at once may restart.
            if now.saturating_sub(began) >= (deadline / 2).as_millis() as Millis {
                node.polls.hasten(now);
            }
            node.change(now, |health| health.poll_failed(&why, now));
        }
    }
}

/// METRICS of a node: on a session, while nothing speaks against it; else, or beside that when it is late after half of the
/// time, on a connection of its own, which shows whether it takes a new client. Either has the whole time from its start.
async fn ask(node: &Node, within: Duration, is_suspect: bool) -> Result<Bytes, LinkError> {
    let link = node.link();
    let on_connection = || link.check(Request::Metrics, Instant::now() + within);
    if !node.is_available() || node.is_failing() || is_suspect {
        return on_connection().await;
    }
    let mut on_session = pin!(link.check_on_session(Request::Metrics, Instant::now() + within));
    match timeout(within / 2, on_session.as_mut()).await {
        Ok(Some(line)) => Ok(line),
        Ok(None) => on_connection().await,
        Err(_) => tokio::select! {
            biased;
            Some(line) = on_session => Ok(line),
            answer = on_connection() => answer,
        },
    }
}

fn judge(line: &[u8]) -> Finding {
    let none = || Finding::Failed("its METRICS are no metrics".to_owned());
    match ReplyView::parse(line) {
        // It is full: that is no failure, and it says so itself.
        Ok(reply) if Fault::of_reply(&reply) == Some(Fault::Full) => Finding::Lives,
        Ok(_) => Report::read(line).map_or_else(none, Finding::Well),
        Err(error) if Fault::of_line(error) == Fault::Document => Finding::Lives,
        Err(_) => none(),
    }
}

/// Learns from all nodes how long each may take, and which share of requests each gets.
fn tune(nodes: &Nodes, now: Millis, slow_start: Millis) {
    let (mut all, mut hits, mut answered) = (Counts::none(), 0, 0);
    let each: Vec<Counts> = nodes.iter().map(|member| member.node.latency.counts()).collect();
    for (member, counts) in nodes.iter().zip(&each) {
        all.add(counts);
        answered += member.node.latency.answered();
        hits += member.node.latency.hits();
    }
    for (member, counts) in nodes.iter().zip(&each) {
        let node = &*member.node;
        let peers = all.without(counts);
        if peers.total() >= ENOUGH {
            let silence = (3 * peers.quantile_us(0.99)).clamp(SILENCE_US.0, SILENCE_US.1);
            node.set_patience(peers.quantile_us(0.95).max(LEAST_HEDGE_US), silence);
        }
        let did = (node.latency.answered(), node.latency.hits());
        let peers = ratio(hits.saturating_sub(did.1), answered.saturating_sub(did.0));
        node.set_share(node.polled.share(did, peers, now, slow_start));
    }
}
