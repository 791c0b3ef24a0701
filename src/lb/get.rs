//! The way of a GET: a node, and when that one fails or is slow, another.
//!
//! ```text
//!   pick ──▶ ask ──sound reply──────────────────────────▶ relayed as it came
//!    ▲        ├──slow──▶ ask a second one as well (hedge) ──▶ the first sound reply
//!    │        ├──not sent──▶ the next node, as many as there are
//!    └────────┴──failed──▶ the next node, twice at most, if the budget allows
//! ```
//! Nearly every request is its first try and nothing more: that is [`First`], a small future made by hand. What comes
//! after a failure or a wait is boxed when it is needed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::Lb;
use super::asked::{Asked, Terms};
use super::health::State;
use super::node::Node;
use super::nodes::{Candidates, Place, View};
use super::tries::{Outcome, Tries};
use super::watch::{Watch, Wheel};
use crate::handler::Answer;
use crate::net::core_index;
use crate::wire::{Key, KeyBuf, Reply};

/// How soon a request that could not be hedged looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A node that is alive gives the sign of life that it is asked for within this; who waits for it longer asks elsewhere.
const GRACE: Duration = Duration::from_millis(15);

/// A GET at the first node that it tries.
struct First {
    asked: Asked,
    watch: Watch,
    terms: Terms,
}

/// A GET.
enum Get {
    First(First),
    /// Whatever comes after a first try that failed or takes long.
    Rest(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Get {
    fn rest(rest: impl Future<Output = Reply> + Send + 'static) -> Self {
        Get::Rest(Box::pin(rest))
    }
}

impl Future for Get {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let outcome = match &mut *self {
            Get::Rest(rest) => return rest.as_mut().poll(cx),
            Get::First(first) => match Pin::new(&mut first.asked).poll(cx) {
                Poll::Ready(Outcome::Reply(reply, _)) => return Poll::Ready(reply),
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => {
                    ready!(first.watch.poll_due(cx));
                    None
                }
            },
        };
        // The first one is taken out whole: it may still be answered.
        let nothing = Get::rest(std::future::pending());
        if let Get::First(First { asked, watch, terms }) = std::mem::replace(&mut *self, nothing) {
            let tries = Tries::first(asked.node().serial);
            let lb = asked.lb().clone();
            let key = asked.key().to_owned();
            *self = match outcome {
                Some(outcome) => {
                    drop((asked, watch));
                    Get::rest(lb.go_on(key, terms, tries, outcome))
                }
                None => Get::rest(async move {
                    let mut tries = tries;
                    let outcome = lb.wait_longer(asked, watch, terms, &mut tries).await;
                    lb.go_on(key, terms, tries, outcome).await
                }),
            };
        }
        self.poll(cx)
    }
}

impl Lb {
    /// Answers a GET: where a session is open, it is sent before this returns.
    pub(super) fn get(self: &Arc<Self>, key: Key<'_>, terms: Terms, now: Instant) -> Answer {
        self.requests.add_one();
        let mut tries = Tries::default();
        Answer::Later(match self.ask_next(key, terms, now, &mut tries) {
            Some(Ok(asked)) => {
                let watch = self.watch(&asked);
                Box::pin(Get::First(First { asked, watch, terms }))
            }
            Some(Err(outcome)) => Box::pin(self.clone().go_on(key.to_owned(), terms, tries, outcome)),
            None => return Answer::Now(self.give_up(tries)),
        })
    }

    /// Goes on after what came of a try, until there is a reply.
    async fn go_on(
        self: Arc<Self>,
        key: KeyBuf,
        terms: Terms,
        mut tries: Tries,
        mut outcome: Outcome,
    ) -> Reply {
        loop {
            if let Outcome::Reply(reply, fetched) = outcome {
                if fetched {
                    self.blame(tries.blind());
                }
                return reply;
            }
            if !tries.go_on(outcome) {
                break;
            }
            outcome = match self.ask_next(key.as_key(), terms, Instant::now(), &mut tries) {
                Some(Ok(asked)) => self.wait(asked, terms, &mut tries).await,
                Some(Err(outcome)) => outcome,
                None => break,
            };
        }
        self.give_up(tries)
    }

    /// These could not reach the origin, and right after them another one could: it is their own fault, and each request
    /// that they get costs a second try.
    fn blame(&self, blind: &[u64]) {
        let nodes = self.nodes.load();
        for place in nodes.iter().filter(|place| blind.contains(&place.node.serial)) {
            self.failed(&place.node, "it does not reach the origin, which others do");
        }
    }

    fn give_up(&self, tries: Tries) -> Reply {
        self.failures.add_one();
        tries.verdict()
    }

    /// Asks the next node to try, if there is one and the budget allows it.
    fn ask_next(
        self: &Arc<Self>,
        key: Key<'_>,
        terms: Terms,
        began: Instant,
        tries: &mut Tries,
    ) -> Option<Result<Asked, Outcome>> {
        let nodes = self.nodes.load();
        let is_first = tries.is_first();
        let trial = match is_first && self.any_probing() {
            true => nodes.iter().find(|place| place.node.take_trial(self.ms(began))),
            false => None,
        };
        let picked = self.balance.pick(key, &nodes.candidates(&tries.tried, self.view(self.ms(began))));
        let place = picked.and_then(|index| nodes.0.get(index));
        if place.is_some()
            && let Some(trial) = trial
        {
            self.try_out(trial, key, began);
        }
        // With nobody else to ask, the request itself is the trial.
        let place = place.or(trial)?;
        if !tries.pay(|| self.may_retry()) {
            return None;
        }
        if !is_first {
            self.count_retry(place);
        }
        tries.tried.push(place.node.serial);
        Some(Asked::new(self, place, key, began, terms))
    }

    /// Asks a node that is probing for what another one is asked for as well: no client waits for a node that may not be
    /// well yet.
    fn try_out(self: &Arc<Self>, place: &Place, key: Key<'_>, began: Instant) {
        let (lb, place, key) = (self.clone(), place.clone(), key.to_owned());
        // Sent by a task of its own: it is no step of the request.
        tokio::spawn(async move {
            let terms = Terms { deadline: None, tell_times: false };
            if let Ok(asked) = Asked::new(&lb, &place, key.as_key(), began, terms) {
                lb.trials.add_one();
                asked.await;
            }
        });
    }

    fn count_retry(&self, place: &Place) {
        self.retries.add_one();
        place.node.counts.retries.add_one();
    }

    fn may_retry(&self) -> bool {
        Self::lock(&self.retry_budget).take(self.now(), self.requests.get())
    }

    fn wheel(&self) -> &Arc<Wheel> {
        &self.wheels[core_index() % self.wheels.len()]
    }

    /// Says when a request takes long.
    fn watch(&self, asked: &Asked) -> Watch {
        let node = asked.node();
        Watch::new(self.wheel().clone(), asked.began() + node.hedge_after().min(node.silence()))
    }

    /// Waits for a node, and for a second one when the first takes long.
    async fn wait(self: &Arc<Self>, mut asked: Asked, terms: Terms, tries: &mut Tries) -> Outcome {
        let mut watch = self.watch(&asked);
        let outcome = poll_fn(|cx| match Pin::new(&mut asked).poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => watch.poll_due(cx).map(|()| None),
        });
        match outcome.await {
            Some(outcome) => outcome,
            None => self.wait_longer(asked, watch, terms, tries).await,
        }
    }

    /// The same, for one that has taken long already.
    async fn wait_longer(
        self: &Arc<Self>,
        mut first: Asked,
        mut watch: Watch,
        terms: Terms,
        tries: &mut Tries,
    ) -> Outcome {
        loop {
            // When that one is full, there may be another when it looks again.
            if let Some(Ok(second)) = self.second(&first, terms, tries) {
                return either(first, second, tries).await;
            }
            let (waited, silence) = (first.began().elapsed(), first.node().silence());
            watch.again(if waited < silence { silence - waited } else { LOOK_AGAIN });
            let outcome = poll_fn(|cx| match Pin::new(&mut first).poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => watch.poll_due(cx).map(|()| None),
            });
            if let Some(outcome) = outcome.await {
                return outcome;
            }
        }
    }

    /// Asks another node as well, when that is in order.
    fn second(
        self: &Arc<Self>,
        asked: &Asked,
        terms: Terms,
        tries: &mut Tries,
    ) -> Option<Result<Asked, Outcome>> {
        let (first, key) = (asked.node(), asked.key());
        let waited = asked.began().elapsed();
        let is_silent = first.last_word() <= self.ms(asked.began());
        if is_silent && waited >= first.silence() && first.suspect(self.now()) {
            self.attention.notify_one();
        }
        // Who waits for a node that was given up meanwhile, or gives no sign of life, asks again, as after a failure: hedges
        // are few, and all that wait for a node that froze need one.
        let grace = GRACE.max(Duration::from_micros(4 * first.latency.average_us(self.now())));
        let is_frozen = waited >= first.silence() && first.is_suspect_for(self.now(), grace);
        let is_gone = is_frozen || first.state() == State::Down;
        if !is_gone && !self.may_hedge(first, key, waited, tries) {
            return None;
        }
        let nodes = self.nodes.load();
        let mut candidates: Candidates =
            nodes.candidates(&tries.tried, View { flights: true, ..self.view(self.now()) });
        if !is_gone {
            // One that is no less busy would be no sooner done.
            let in_flight = first.in_flight();
            candidates.retain(|candidate| candidate.in_flight < in_flight.max(1));
        }
        let place = nodes.0.get(self.balance.peek(key, &candidates)?)?;
        if place.node.latency.is_full(self.config.max_in_flight) {
            return None;
        }
        if is_gone {
            if !tries.pay_for_retry(|| self.may_retry()) {
                return None;
            }
            self.count_retry(place);
        } else {
            if !Self::lock(&self.hedge_budget).take(self.now(), self.requests.get()) {
                return None;
            }
            tries.hedged = true;
            self.hedges.add_one();
            place.node.counts.hedges.add_one();
        }
        tries.tried.push(place.node.serial);
        Some(Asked::new(self, place, key, Instant::now(), terms))
    }

    fn may_hedge(&self, first: &Node, key: Key<'_>, waited: Duration, tries: &Tries) -> bool {
        self.config.hedge && !tries.hedged && waited >= first.hedge_after() && self.balance.may_hedge(key)
    }

    /// A request failed at a node. The last healthy one is not given up for that: a poll has to agree.
    pub(super) fn failed(&self, node: &Node, why: &str) {
        node.request_failed(why, self.now(), self.nodes.load().has_other(node));
    }
}

/// The first reply of two; when neither brings one, what came of the later one, and the earlier is noted.
async fn either(first: Asked, second: Asked, tries: &mut Tries) -> Outcome {
    let (outcome, other) = match select(first, second).await {
        Either::Left(first_done) => first_done,
        Either::Right(second_done) => second_done,
    };
    match outcome {
        Outcome::Reply(..) => outcome,
        _ => {
            // Whether more is to be tried is said when the other one has ended as well.
            let _ = tries.go_on(outcome);
            other.await
        }
    }
}
