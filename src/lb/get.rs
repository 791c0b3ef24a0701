//! The way of a GET: a node, and when that one fails or is slow, another.
//!
//! ```text
//!   pick ──▶ ask ──sound reply──────────────────────────▶ relayed as it came
//!    ▲        ├──slow──▶ ask a second one as well (hedge) ──▶ the first sound reply
//!    │        ├──not sent──▶ the next node, as many as there are
//!    └────────┴──failed──▶ the next node, twice at most, if the budget allows
//! ```

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::Lb;
use super::health::State;
use super::node::Node;
use super::nodes::{Candidates, Held, Place, Tried, View};
use super::watch::Watch;
use crate::net::{LinkError, core_index};
use crate::wire::{Key, KeyBuf, Reply, ReplyView, Request, Status};

/// Tries after one that was sent and failed.
const MORE_TRIES: u32 = 2;
/// How soon a request that could not be hedged looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A node that was chosen.
struct Picked {
    node: Held,
    id: u64,
}

impl Picked {
    fn new(place: &Place) -> Self {
        Self { node: place.held[core_index() % place.held.len()].clone(), id: place.id }
    }
}

/// What came of asking a node.
enum Outcome {
    /// A reply to be relayed.
    Reply(Reply),
    /// An error that is no fault of the node, and that another node may not have.
    Soft(Reply),
    /// The request was not sent.
    NotSent,
    /// A limit of ours: the node was not asked.
    Busy,
    /// It was sent, and no sound reply came.
    Failed,
    /// The asker's own time is up.
    TooLate,
}

/// What one request has tried.
#[derive(Default)]
struct Tries {
    tried: Tried,
    /// Tries that the budget paid for.
    paid: u32,
    /// Whether the next one has to be paid for.
    costs: bool,
    /// What to relay when nothing better comes.
    soft: Option<Reply>,
    origin_failures: u32,
    hedged: bool,
    busy: usize,
    too_late: bool,
}

impl Outcome {
    fn is_reply(&self) -> bool {
        matches!(self, Outcome::Reply(_))
    }
}

impl Tries {
    /// Takes note of an outcome without a reply. False when nothing more is to be tried.
    fn go_on(&mut self, outcome: Outcome) -> bool {
        self.costs = matches!(outcome, Outcome::Failed | Outcome::Soft(_));
        match outcome {
            Outcome::Busy => self.busy += 1,
            Outcome::Soft(reply) => {
                self.origin_failures += u32::from(reply.status == Status::OriginFailure);
                // What the proxy said of the origin says more than that it had no time.
                if self.soft.is_none() || reply.status == Status::OriginFailure {
                    self.soft = Some(reply);
                }
            }
            Outcome::TooLate => self.too_late = true,
            Outcome::NotSent | Outcome::Failed | Outcome::Reply(_) => {}
        }
        !self.too_late && self.origin_failures < 2
    }

    /// The reply when no node gave one.
    fn verdict(self) -> Reply {
        if let Some(reply) = self.soft {
            return reply;
        }
        let (status, text) = match self.tried.len() {
            0 => (Status::ProxyError, "there is no healthy proxy to try"),
            tried if self.busy == tried => {
                (Status::Overloaded, "every proxy has as many requests as it may have")
            }
            _ if self.too_late => {
                (Status::ProxyUnreachable, "no proxy answered within the deadline of the request")
            }
            _ => (Status::ProxyUnreachable, "every proxy that was tried failed"),
        };
        Reply::text(status, text)
    }
}

/// Tells the strategy that a request has ended, whichever way it does.
struct Sent<'a> {
    lb: &'a Lb,
    key: Key<'a>,
    id: u64,
    hit: Option<bool>,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.lb.balance.ended(self.key, self.id, self.hit);
    }
}

impl Lb {
    pub(super) async fn get(self: Arc<Self>, key: KeyBuf, deadline: Option<Instant>) -> Reply {
        self.requests.add_one();
        let mut began = Instant::now();
        let mut tries = Tries::default();
        while let Some(picked) = self.pick(key.as_key(), began, &mut tries) {
            let outcome = self.ask_patiently(picked, key.as_key(), began, deadline, &mut tries).await;
            if let Outcome::Reply(reply) = outcome {
                return reply;
            }
            if !tries.go_on(outcome) {
                break;
            }
            began = Instant::now();
        }
        self.failures.add_one();
        tries.verdict()
    }

    /// The next node to try, if there is one and the budget allows it.
    fn pick(&self, key: Key<'_>, now: Instant, tries: &mut Tries) -> Option<Picked> {
        let nodes = self.nodes.load();
        let is_first = tries.tried.is_empty();
        let index = match is_first && self.any_probing() {
            true => nodes.iter().position(|place| place.node.take_trial(self.now())),
            false => None,
        };
        let index = match index {
            Some(index) => index,
            None => self.balance.pick(key, &nodes.candidates(&tries.tried, self.view(self.ms(now))))?,
        };
        if tries.costs {
            if tries.paid >= MORE_TRIES || !self.may_retry() {
                return None;
            }
            tries.paid += 1;
        }
        let place = nodes.0.get(index)?;
        if !is_first {
            self.retries.add_one();
            place.node.counts.retries.add_one();
        }
        tries.tried.push(place.node.serial);
        Some(Picked::new(place))
    }

    fn may_retry(&self) -> bool {
        Self::lock(&self.retry_budget).take(self.now(), self.requests.get())
    }

    /// Asks a node, and a second one when the first takes long.
    async fn ask_patiently(
        &self,
        picked: Picked,
        key: Key<'_>,
        began: Instant,
        deadline: Option<Instant>,
        tries: &mut Tries,
    ) -> Outcome {
        let latest = began + self.config.try_deadline;
        let until = deadline.map_or(latest, |deadline| deadline.min(latest));
        let mut first = pin!(self.ask(&picked, key, began, until, until == latest));
        let node = &picked.node;
        let due = began + node.hedge_after().min(node.silence());
        let mut watch = Watch::new(&self.wheels[core_index() % self.wheels.len()], due);
        loop {
            if let Some(outcome) = watch.race(first.as_mut()).await {
                return outcome;
            }
            if let Some(second) = self.second(node, key, began, tries) {
                let second =
                    Box::pin(
                        async move { self.ask(&second, key, Instant::now(), until, until == latest).await },
                    );
                return either(first, second).await;
            }
            let waited = began.elapsed();
            watch.again(if waited < node.silence() { node.silence() - waited } else { LOOK_AGAIN });
        }
    }

    /// The node that is asked as well, when that is in order.
    fn second(&self, first: &Node, key: Key<'_>, began: Instant, tries: &mut Tries) -> Option<Picked> {
        let waited = began.elapsed();
        let is_silent = first.last_word() <= self.ms(began);
        if is_silent && waited >= first.silence() && first.set_suspect(true) {
            self.attention.notify_one();
        }
        // Who waits for a node that was given up meanwhile asks again, as after a failure.
        let is_gone = first.state() == State::Down;
        let hedges = !is_gone
            && self.config.hedge
            && !tries.hedged
            && waited >= first.hedge_after()
            && self.balance.may_hedge(key);
        if !is_gone && !hedges {
            return None;
        }
        let nodes = self.nodes.load();
        let mut candidates: Candidates =
            nodes.candidates(&tries.tried, View { flights: true, ..self.view(self.now()) });
        if hedges {
            // One that is no less busy would be no sooner done.
            let in_flight = first.in_flight();
            candidates.retain(|candidate| candidate.in_flight < in_flight.max(1));
        }
        let place = nodes.0.get(self.balance.peek(key, &candidates)?)?;
        if is_gone && (tries.paid >= MORE_TRIES || !self.may_retry()) {
            return None;
        }
        if hedges && !Self::lock(&self.hedge_budget).take(self.now(), self.requests.get()) {
            return None;
        }
        if is_gone {
            tries.paid += 1;
            self.retries.add_one();
            place.node.counts.retries.add_one();
        } else {
            tries.hedged = true;
            self.hedges.add_one();
            place.node.counts.hedges.add_one();
        }
        tries.tried.push(place.node.serial);
        Some(Picked::new(place))
    }

    /// Asks one node. `is_ours` says that the deadline is ours, so that missing it is the node's failure.
    async fn ask(
        &self,
        picked: &Picked,
        key: Key<'_>,
        began: Instant,
        until: Instant,
        is_ours: bool,
    ) -> Outcome {
        let node = &*picked.node;
        if node.latency.is_full(self.config.max_in_flight) {
            return Outcome::Busy;
        }
        let asked = {
            let _in_flight = node.latency.begin();
            self.balance.sent(key, picked.id);
            let mut sent = Sent { lb: self, key, id: picked.id, hit: None };
            let asked = match self.nodes.load().0.len() {
                // There is nobody else: a session that ended while it was asked is made anew.
                1 => node.link().ask(Request::Get(key), until).await,
                _ => node.link().ask_once(Request::Get(key), until, began).await,
            };
            asked.map(|line| {
                let view = ReplyView::parse(&line).map(|view| (view.status, view.cache_hit));
                sent.hit = view.as_ref().ok().and_then(|(_, hit)| *hit);
                (view, line)
            })
        };
        let ended = Instant::now();
        let now = self.ms(ended);
        match asked {
            Ok((Ok((status, hit)), line)) => {
                node.answered(ended - began, hit == Some(true), now);
                let reply = Reply::relayed(status, line);
                match status {
                    Status::OriginFailure => Outcome::Soft(reply),
                    Status::Overloaded => {
                        node.latency.penalise(now);
                        Outcome::Soft(reply)
                    }
                    _ => Outcome::Reply(reply),
                }
            }
            Ok((Err(error), _)) => {
                node.heard(now);
                self.failed(node, &error.to_string());
                Outcome::Failed
            }
            // It is not the node's fault that we ask it too much.
            Err(LinkError::Busy) => Outcome::Busy,
            Err(LinkError::Late) if !is_ours => Outcome::TooLate,
            Err(error) => {
                self.failed(node, &error.to_string());
                if error == LinkError::Refused { Outcome::NotSent } else { Outcome::Failed }
            }
        }
    }

    /// A request failed at a node. The last healthy one is not given up for that: a poll has to agree.
    fn failed(&self, node: &Node, why: &str) {
        node.request_failed(why, self.now(), self.nodes.load().has_other(node));
    }
}

/// The first reply of two; when neither brings one, what came of the later one.
async fn either<A, B>(first: Pin<&mut A>, second: Pin<Box<B>>) -> Outcome
where
    A: Future<Output = Outcome>,
    B: Future<Output = Outcome>,
{
    match select(first, second).await {
        Either::Left((outcome, second)) => match outcome.is_reply() {
            true => outcome,
            false => second.await,
        },
        Either::Right((outcome, first)) => match outcome.is_reply() {
            true => outcome,
            false => first.await,
        },
    }
}
