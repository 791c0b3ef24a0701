//! The way of a GET: one node, and when that one fails or is slow, another.
//!
//! ```text
//!   pick ──▶ attempt ──sound reply──────────────────────▶ relayed as it came
//!    ▲        ├──slow──▶ a second attempt beside it (hedge) ──▶ the first sound reply
//!    │        ├──not sent──▶ the next node, until all were tried
//!    ├────────┴──failed──▶ the next node, twice at most, if the budget allows
//!    └──nobody is left──▶ all nodes are checked (rescue) ──▶ the first sound one
//! ```

use std::sync::Arc;

use tokio::time::Instant;

use super::attempt::{Attempt, Terms};
use super::hedge::{Watched, wait, wait_longer};
use super::nodes::Member;
use super::rescue;
use super::tries::{Outcome, Tries};
use super::upstreams::Upstreams;
use crate::handler::Answer;
use crate::wire::{Key, KeyBuf, Reply, Status};

/// Answers a GET. If a session with the chosen node is open, the request is sent before this returns.
pub(super) fn get(upstreams: &Arc<Upstreams>, key: Key<'_>, terms: Terms, now: Instant) -> Answer {
    upstreams.totals.requests.add_one();
    let mut tries = Tries::default();
    match ask_next(upstreams, key, terms, now, &mut tries) {
        Ok(attempt) => Answer::later(first(Watched::new(attempt), terms)),
        Err(outcome) => Answer::later(go_on(upstreams.clone(), key.to_owned(), terms, tries, outcome)),
    }
}

/// The reply to a GET that has begun its first attempt, which is the only one of nearly every GET. This future is made
/// for each GET, so it has no room for further attempts: they are boxed when they are needed.
#[expect(clippy::manual_async_fn, reason = "an async fn would hold its arguments twice")]
fn first(mut watched: Watched, terms: Terms) -> impl Future<Output = Reply> + Send {
    async move {
        match watched.until_due().await {
            Some(Outcome::Reply(reply, _)) => reply,
            outcome => Box::pin(rest(watched, terms, outcome)).await,
        }
    }
}

/// Goes on when the first attempt ended without a reply (`outcome`), or is still open and takes long (`None`).
async fn rest(first: Watched, terms: Terms, outcome: Option<Outcome>) -> Reply {
    let attempt = &first.attempt;
    let (upstreams, key) = (attempt.upstreams.clone(), attempt.key.clone());
    let mut tries = Tries::first(attempt.node.identity);
    let outcome = match outcome {
        Some(outcome) => {
            drop(first);
            outcome
        }
        None => wait_longer(first, terms, &mut tries).await,
    };
    go_on(upstreams, key, terms, tries, outcome).await
}

/// Makes further attempts until one brings a reply or none is left.
async fn go_on(
    upstreams: Arc<Upstreams>,
    key: KeyBuf,
    terms: Terms,
    mut tries: Tries,
    mut outcome: Outcome,
) -> Reply {
    loop {
        if let Outcome::Reply(reply, fetched) = outcome {
            if fetched {
                fail(&upstreams, tries.blind(), "it does not reach the origin, which others do");
            }
            if reply.status == Status::Ok {
                fail(&upstreams, tries.unfit(), "it has no sound document where others have one");
            }
            return reply;
        }
        let goes_on = match outcome {
            Outcome::Nobody => rescue(&upstreams, terms, &mut tries).await,
            outcome => tries.go_on(outcome),
        };
        if !goes_on {
            break;
        }
        outcome = match ask_next(&upstreams, key.as_key(), terms, Instant::now(), &mut tries) {
            Ok(attempt) => wait(attempt, terms, &mut tries).await,
            Err(outcome) => outcome,
        };
    }
    upstreams.totals.failures.add_one();
    tries.verdict(upstreams.members.nodes().any_owes())
}

/// Waits for a sound node, at most as long as for an attempt. True when there is one, even one that was tried before.
async fn rescue(upstreams: &Arc<Upstreams>, terms: Terms, tries: &mut Tries) -> bool {
    let latest = Instant::now() + upstreams.try_deadline;
    let deadline = terms.deadline.map_or(latest, |deadline| deadline.min(latest));
    let is_found = tries.take_rescue() && rescue::wait(upstreams, deadline).await;
    if is_found {
        tries.tried.clear();
    }
    is_found
}

/// Counts a failed request at each of these nodes: another one answered what they could not. So they are at fault, and each
/// request that such a node gets costs a further attempt.
fn fail(upstreams: &Upstreams, nodes: &[u64], why: &str) {
    for member in upstreams.members.nodes().iter().filter(|member| nodes.contains(&member.node.identity)) {
        upstreams.members.request_failed(&member.node, why);
    }
}

/// Sends the request to the next node: the attempt, or the outcome of one that could not be sent. `Nobody` if there is no
/// further node, `Unpaid` if the budget for retries is spent.
fn ask_next(
    upstreams: &Arc<Upstreams>,
    key: Key<'_>,
    terms: Terms,
    began: Instant,
    tries: &mut Tries,
) -> Result<Attempt, Outcome> {
    // Before a node is picked: a request that cannot be sent again is not rescued either.
    if !tries.pay(|| upstreams.pay_retry()) {
        return Err(Outcome::Unpaid);
    }
    let now = upstreams.clock.at(began);
    let standing = upstreams.standing(now);
    let is_first = tries.is_first();
    let trial = match is_first {
        true => standing.probing().find(|member| member.node.take_trial(now)),
        false => None,
    };
    let picked = upstreams.choice.pick(key, &standing, &tries.tried, now);
    if picked.is_some()
        && let Some(trial) = trial
    {
        send_trial(upstreams, trial, key, began);
    }
    // With no other node to pick, the request itself is the trial.
    let member = picked.or(trial).ok_or(Outcome::Nobody)?;
    if !is_first {
        upstreams.count_retry(member);
    }
    tries.note(member.node.identity);
    Attempt::new(upstreams, member, key, began, terms)
}

/// Sends a copy of the request to a probing node, which may not be well yet: the client does not wait for this reply.
fn send_trial(upstreams: &Arc<Upstreams>, member: &Member, key: Key<'_>, began: Instant) {
    let (upstreams, member, key) = (upstreams.clone(), member.clone(), key.to_owned());
    // In a task of its own, so that it is no step in the trace of the client's request.
    tokio::spawn(async move {
        let terms = Terms { deadline: None, tell_times: false };
        if let Ok(attempt) = Attempt::new(&upstreams, &member, key.as_key(), began, terms) {
            upstreams.totals.trials.add_one();
            attempt.await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(_: impl Fn(Watched, Terms) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_get_takes_hardly_more_memory_than_its_first_attempt() {
        let (parts, future) = (size_of::<(Watched, Terms)>(), size_of_future(first));
        assert!(future <= parts + parts / 10, "{future} bytes for {parts}");
    }
}
