//! Why a second node gets a request whose first attempt is still open. Pure.

use std::time::Duration;

/// A suspect node that is alive answers the health task within this time, or within four average latencies.
const GRACE: Duration = Duration::from_millis(15);

/// A reason for a second attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// The node went down or froze while we waited: paid from the retry budget, because every request stuck on it needs one
    /// and the hedge budget is small.
    Retry,
    /// The node is slow.
    Hedge,
}

/// What is known of an open attempt and its node.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    /// Since the request was sent.
    pub(super) waited: Duration,
    /// The time without a reply after which the node is suspect.
    pub(super) silence: Duration,
    /// The time without a reply after which a hedge is due.
    pub(super) hedge_after: Duration,
    /// How long the node has been suspect, if it is.
    pub(super) suspect_for: Option<Duration>,
    pub(super) average_latency: Duration,
    pub(super) is_down: bool,
    /// Whether this request may be hedged at all: by the configuration, by the strategy, and only once.
    pub(super) may_hedge: bool,
}

/// The reason, if there is one by now.
pub(super) fn why(wait: &Wait) -> Option<Why> {
    let grace = GRACE.max(4 * wait.average_latency);
    let is_frozen = wait.waited >= wait.silence && wait.suspect_for.is_some_and(|long| long >= grace);
    if wait.is_down || is_frozen {
        return Some(Why::Retry);
    }
    (wait.may_hedge && wait.waited >= wait.hedge_after).then_some(Why::Hedge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// An attempt of 10 ms at a node whose peers take 5 ms at the 95th percentile.
    fn slow() -> Wait {
        Wait {
            waited: 10 * MS,
            silence: 25 * MS,
            hedge_after: 5 * MS,
            suspect_for: None,
            average_latency: MS,
            is_down: false,
            may_hedge: true,
        }
    }

    #[test]
    fn a_slow_attempt_is_hedged_when_it_may_be() {
        assert_eq!(why(&slow()), Some(Why::Hedge));
        assert_eq!(why(&Wait { waited: 4 * MS, ..slow() }), None, "it is not slow yet");
        assert_eq!(why(&Wait { may_hedge: false, ..slow() }), None);
        assert_eq!(why(&Wait { waited: 60 * MS, may_hedge: false, ..slow() }), None, "slow, not suspect");
    }

    #[test]
    fn an_attempt_at_a_node_that_went_down_is_retried() {
        let down = Wait { is_down: true, ..slow() };
        assert_eq!(why(&down), Some(Why::Retry), "not hedged: the hedge budget is small");
        assert_eq!(why(&Wait { may_hedge: false, waited: MS, ..down }), Some(Why::Retry));
    }

    #[test]
    fn a_suspect_node_has_a_grace_to_answer_the_health_task() {
        let suspect = |long| Wait { waited: 60 * MS, suspect_for: Some(long), may_hedge: false, ..slow() };
        assert_eq!(why(&suspect(14 * MS)), None);
        assert_eq!(why(&suspect(15 * MS)), Some(Why::Retry), "it is frozen");
        let far_away = Wait { average_latency: 10 * MS, ..suspect(39 * MS) };
        assert_eq!(why(&far_away), None, "four average latencies");
        assert_eq!(why(&Wait { suspect_for: Some(40 * MS), ..far_away }), Some(Why::Retry));
        let young = Wait { waited: 24 * MS, ..suspect(MS * 1_000) };
        assert_eq!(why(&young), None, "this request has not waited for long");
    }
}
