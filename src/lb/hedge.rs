//! A try that takes long: when another node is asked beside it, and which.
//!
//! ```text
//!   asked ──slow──▶ a hedge: another node that is less busy, once, if its budget allows
//!      ├──given up meanwhile, or no sign of life──▶ a retry: another node, as after a failure
//!      └──neither──▶ looked at again
//! ```

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::Lb;
use super::asked::{Asked, Terms};
use super::health::State;
use super::node::Node;
use super::nodes::{Candidates, View};
use super::tries::{Outcome, Tries};
use super::watch::{Watch, Wheel};
use crate::lock::lock;
use crate::wire::Key;

/// How soon a request that could not be hedged looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A node that is alive gives the sign of life that it is asked for within this; who waits for it longer asks elsewhere.
const GRACE: Duration = Duration::from_millis(15);

impl Lb {
    fn wheel(&self) -> &Arc<Wheel> {
        self.wheels.here()
    }

    /// Says when a request takes long.
    pub(super) fn watch(&self, asked: &Asked) -> Watch {
        let node = asked.node();
        Watch::new(self.wheel().clone(), asked.began() + node.hedge_after().min(node.silence()))
    }

    /// Waits for a node, and for a second one when the first takes long.
    pub(super) async fn wait(self: &Arc<Self>, mut asked: Asked, terms: Terms, tries: &mut Tries) -> Outcome {
        let mut watch = self.watch(&asked);
        match until_due(&mut asked, &mut watch).await {
            Some(outcome) => outcome,
            None => self.wait_longer(asked, watch, terms, tries).await,
        }
    }

    /// The same, for one that has taken long already.
    pub(super) async fn wait_longer(
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
            if let Some(outcome) = until_due(&mut first, &mut watch).await {
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
            if !lock(&self.hedge_budget).take(self.now(), self.requests.get()) {
                return None;
            }
            tries.hedged = true;
            self.hedges.add_one();
            place.node.counts.hedges.add_one();
        }
        tries.tried.push(place.node.identity);
        Some(Asked::new(self, place, key, Instant::now(), terms))
    }

    fn may_hedge(&self, first: &Node, key: Key<'_>, waited: Duration, tries: &Tries) -> bool {
        self.config.hedge && !tries.hedged && waited >= first.hedge_after() && self.balance.may_hedge(key)
    }
}

/// What came of a try; `None` when it is due before that.
async fn until_due(asked: &mut Asked, watch: &mut Watch) -> Option<Outcome> {
    poll_fn(|cx| match Pin::new(&mut *asked).poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => watch.poll_due(cx).map(|()| None),
    })
    .await
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
