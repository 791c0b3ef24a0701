//! The way of a GET: one node, and when that one fails or is slow, another.
//!
//! ```text
//!   pick ──▶ attempt ──sound reply──────────────────────▶ relayed as it came
//!    ▲        ├──slow──▶ a second attempt beside it (hedge) ──▶ the first sound reply
//!    │        ├──not sent──▶ the next node, until all were tried
//!    └────────┴──failed──▶ the next node, twice at most, if the budget allows
//! ```

use std::sync::Arc;

use tokio::time::Instant;

use super::attempt::{Attempt, Terms};
use super::hedge::{Watched, wait, wait_longer};
use super::nodes::Member;
use super::tries::{Outcome, Tries};
use super::upstreams::Upstreams;
use crate::handler::Answer;
use crate::wire::{Key, KeyBuf, Reply};

/// Answers a GET: where a session is open, the request is sent before this returns.
pub(super) fn get(upstreams: &Arc<Upstreams>, key: Key<'_>, terms: Terms, now: Instant) -> Answer {
    upstreams.totals.requests.add_one();
    let mut tries = Tries::default();
    match ask_next(upstreams, key, terms, now, &mut tries) {
        Some(Ok(attempt)) => Answer::later(first(Watched::new(attempt), terms)),
        Some(Err(outcome)) => Answer::later(go_on(upstreams.clone(), key.to_owned(), terms, tries, outcome)),
        None => Answer::Now(give_up(upstreams, tries)),
    }
}

/// Nearly every GET is its first attempt and nothing more. This future is made for each of them, so whatever may come after
/// is boxed when it comes.
#[expect(clippy::manual_async_fn, reason = "an async fn would hold its arguments twice")]
fn first(mut watched: Watched, terms: Terms) -> impl Future<Output = Reply> + Send {
    async move {
        match watched.until_due().await {
            Some(Outcome::Reply(reply, _)) => reply,
            outcome => Box::pin(rest(watched, terms, outcome)).await,
        }
    }
}

/// What comes after a first attempt that failed (with this outcome) or takes long.
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
                blame(&upstreams, tries.blind());
            }
            return reply;
        }
        if !tries.go_on(outcome) {
            break;
        }
        outcome = match ask_next(&upstreams, key.as_key(), terms, Instant::now(), &mut tries) {
            Some(Ok(attempt)) => wait(attempt, terms, &mut tries).await,
            Some(Err(outcome)) => outcome,
            None => break,
        };
    }
    give_up(&upstreams, tries)
}

/// These nodes did not reach the origin, and right after them another node did: it is their own fault, and each request
/// that they get costs a further attempt.
fn blame(upstreams: &Upstreams, blind: &[u64]) {
    for member in upstreams.members.nodes().iter().filter(|member| blind.contains(&member.node.identity)) {
        upstreams.members.request_failed(&member.node, "it does not reach the origin, which others do");
    }
}

fn give_up(upstreams: &Upstreams, tries: Tries) -> Reply {
    upstreams.totals.failures.add_one();
    tries.verdict()
}

/// Sends the request to the next node, if there is one and the budget allows it.
fn ask_next(
    upstreams: &Arc<Upstreams>,
    key: Key<'_>,
    terms: Terms,
    began: Instant,
    tries: &mut Tries,
) -> Option<Result<Attempt, Outcome>> {
    let (members, now) = (&upstreams.members, upstreams.clock.at(began));
    let nodes = members.nodes();
    let is_first = tries.is_first();
    let trial = match is_first && members.any_probing() {
        true => nodes.iter().find(|member| member.node.take_trial(now)),
        false => None,
    };
    let picked = upstreams.choice.pick(key, &nodes, &tries.tried, now);
    if picked.is_some()
        && let Some(trial) = trial
    {
        send_trial(upstreams, trial, key, began);
    }
    // With no other node to pick, the request itself is the trial.
    let member = picked.or(trial)?;
    if !tries.pay(|| upstreams.pay_retry()) {
        return None;
    }
    if !is_first {
        upstreams.count_retry(member);
    }
    tries.tried.push(member.node.identity);
    Some(Attempt::new(upstreams, member, key, began, terms))
}

/// Sends a copy of the request to a probing node: no client waits for a node that may not be well yet.
fn send_trial(upstreams: &Arc<Upstreams>, member: &Member, key: Key<'_>, began: Instant) {
    let (upstreams, member, key) = (upstreams.clone(), member.clone(), key.to_owned());
    // In a task of its own: it is no step of the client's request.
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
