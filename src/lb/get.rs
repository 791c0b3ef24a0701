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

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use super::Lb;
use super::asked::{Asked, Terms};
use super::node::Node;
use super::nodes::Place;
use super::tries::{Outcome, Tries};
use super::watch::Watch;
use crate::handler::Answer;
use crate::lock::lock;
use crate::wire::{Key, KeyBuf, Reply};

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
            let tries = Tries::first(asked.node().identity);
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
        for place in nodes.iter().filter(|place| blind.contains(&place.node.identity)) {
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
        tries.tried.push(place.node.identity);
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

    pub(super) fn count_retry(&self, place: &Place) {
        self.retries.add_one();
        place.node.counts.retries.add_one();
    }

    pub(super) fn may_retry(&self) -> bool {
        lock(&self.retry_budget).take(self.now(), self.requests.get())
    }

    /// A request failed at a node. The last healthy one is not given up for that: a poll has to agree.
    pub(super) fn failed(&self, node: &Node, why: &str) {
        node.request_failed(why, self.now(), self.nodes.load().has_other(node));
    }
}
