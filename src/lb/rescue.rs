//! The rescue of requests that found no healthy node: all nodes are checked at once, for all such requests together.
//!
//! ```text
//!   nobody ──▶ next round ──the first sound node──▶ the request goes there
//!                  └──every check failed──▶ the error is true
//! ```
//! Polls learn of a node that came back within their interval, and of one that died after some failures. Between the two
//! lies a time in which only a sound node is left that the balancer takes to be down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::health_task::poll_now;
use super::rounds::{Checks, Round};
use super::upstreams::Upstreams;

/// The least time between the beginnings of two rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest round: the rest of a poll under way, and one more poll.
const LONGEST: Duration = Duration::from_secs(2);

/// Waits until a check finds a sound node. False when every check failed, at the deadline, or when as many requests wait
/// already as may be in flight at one node.
pub(super) async fn wait(upstreams: &Arc<Upstreams>, deadline: Instant) -> bool {
    if upstreams.rescues.waiting.get() >= upstreams.max_in_flight {
        return false;
    }
    let _waiting = upstreams.rescues.waiting.enter();
    timeout_at(deadline, next_round(upstreams).found()).await.unwrap_or(false)
}

fn next_round(upstreams: &Arc<Upstreams>) -> Arc<Round> {
    upstreams.rescues.join(PAUSE, |begins, checks| {
        let upstreams = upstreams.clone();
        tokio::spawn(async move {
            sleep_until(begins).await;
            upstreams.rescues.begin(Instant::now());
            let _ = timeout(LONGEST, check_all(&upstreams, &checks)).await;
        });
    })
}

/// Checks all nodes that are not drained. One that owes purges does them first.
async fn check_all(upstreams: &Arc<Upstreams>, checks: &Checks) {
    let nodes = upstreams.members.nodes_kept();
    let nodes = nodes.iter().map(|member| &member.node).filter(|node| !node.is_draining());
    let polls = nodes.map(async |node| {
        poll_now(upstreams, node).await;
        if node.is_available() {
            checks.found();
        }
    });
    join_all(polls).await;
}
