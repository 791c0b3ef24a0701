//! An attempt that takes long: when a second node gets the request as well, and which.
//!
//! How long that is, the node says (`hedge_after` and `silence`): `tune` in `health_task` learns both from the latencies
//! of the other nodes.
//!
//! ```text
//!   attempt ──slow──▶ a hedge: a less busy node, once, if the hedge budget allows
//!      ├──node down or frozen──▶ a retry: another node, as after a failure
//!      └──neither──▶ looked at again
//! ```

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::attempt::{Attempt, Terms};
use super::balance::Load;
use super::health::State;
use super::tries::{Outcome, Tries};
use super::wheel::Due;
use super::why::{Wait, Why, why};

/// The time until the next look at an attempt that got no second one beside it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An open attempt, and the timer that says when it takes long.
pub(super) struct Watched {
    pub(super) attempt: Attempt,
    due: Due,
}

impl Watched {
    pub(super) fn new(attempt: Attempt) -> Self {
        let node = &attempt.node;
        let takes_long = attempt.began + node.hedge_after().min(node.silence());
        Self { due: Due::new(attempt.upstreams.wheel().clone(), takes_long), attempt }
    }

    /// The outcome of the attempt; `None` when it takes long.
    pub(super) fn until_due(&mut self) -> impl Future<Output = Option<Outcome>> {
        poll_fn(move |cx| match Pin::new(&mut self.attempt).poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => self.due.poll_due(cx).map(|()| None),
        })
    }
}

/// The outcome of an attempt, or of a second one beside it when the first takes long.
pub(super) async fn wait(attempt: Attempt, terms: Terms, tries: &mut Tries) -> Outcome {
    let mut watched = Watched::new(attempt);
    match watched.until_due().await {
        Some(outcome) => outcome,
        None => wait_longer(watched, terms, tries).await,
    }
}

/// The outcome of an attempt that has taken long already.
pub(super) async fn wait_longer(mut first: Watched, terms: Terms, tries: &mut Tries) -> Outcome {
    loop {
        if let Some(second) = second(&first.attempt, terms, tries) {
            return either(first.attempt, second, tries).await;
        }
        let (waited, silence) = (first.attempt.began.elapsed(), first.attempt.node.silence());
        first.due.again(if waited < silence { silence - waited } else { LOOK_AGAIN });
        if let Some(outcome) = first.until_due().await {
            return outcome;
        }
    }
}

/// Sends the request to a second node, if there is a reason, a node and a budget.
fn second(first: &Attempt, terms: Terms, tries: &mut Tries) -> Option<Attempt> {
    let (upstreams, key) = (&first.upstreams, first.key.as_key());
    let why = why(&look_at(first, tries))?;
    let now = upstreams.clock.now();
    let standing = upstreams.standing(now);
    let below = match why {
        Why::Retry => u64::MAX,
        // A node that is as busy as the first would hardly be done sooner.
        Why::Hedge => first.node.in_flight().max(1),
    };
    let member = upstreams.choice.peek_beside(key, &standing, &tries.tried, below, now)?;
    if member.node.latency.is_full(upstreams.max_in_flight) {
        return None;
    }
    match why {
        Why::Retry if !tries.pay_for_retry(|| upstreams.pay_retry()) => return None,
        Why::Hedge if !upstreams.pay_hedge() => return None,
        Why::Retry => upstreams.count_retry(member),
        Why::Hedge => {
            tries.hedged = true;
            upstreams.count_hedge(member);
        }
    }
    tries.note(member.node.identity);
    Attempt::new(upstreams, member, key, Instant::now(), terms).ok()
}

/// Looks at an open attempt; if its node has been silent for too long, the node becomes suspect and is polled now.
fn look_at(attempt: &Attempt, tries: &Tries) -> Wait {
    let (upstreams, node) = (&attempt.upstreams, &attempt.node);
    let (now, waited) = (upstreams.clock.now(), attempt.began.elapsed());
    let silence = node.silence();
    let is_silent = node.last_word() <= upstreams.clock.at(attempt.began);
    if is_silent && waited >= silence && node.suspect(now) {
        upstreams.attention.notify_one();
    }
    Wait {
        waited,
        silence,
        hedge_after: node.hedge_after(),
        suspect_for: node.suspect_for(now),
        average_latency: Duration::from_micros(node.latency.average_us(now)),
        is_down: node.state() == State::Down,
        may_hedge: upstreams.hedge
            && !tries.hedged
            && upstreams.choice.balance().may_hedge(attempt.key.as_key(), attempt.id),
    }
}

/// The first reply of two attempts. If neither brings one: the outcome of the attempt that ends last; that of the other
/// one is noted in `tries`.
async fn either(first: Attempt, second: Attempt, tries: &mut Tries) -> Outcome {
    let (outcome, other) = match select(first, second).await {
        Either::Left(first_done) => first_done,
        Either::Right(second_done) => second_done,
    };
    match outcome {
        Outcome::Reply(..) => outcome,
        _ => {
            // Whether there is a further attempt is decided when the other one has ended as well.
            let _ = tries.go_on(outcome);
            other.await
        }
    }
}
