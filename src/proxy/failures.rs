//! Requests to the origin that failed, counted by their kinds: what a person who looks for the reason wants to know first.

use serde::Serialize;

use crate::blame::Fault;
use crate::net::LinkError;
use crate::source::{Brought, Unmet};
use crate::stats::Counter;

/// What a request to the origin ended in, in place of an answer about its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FailureKind {
    /// No connection was made: the origin has no address, or refuses.
    Unreachable,
    /// The answer did not come in time.
    Late,
    /// The connection ended before the answer did.
    Closed,
    /// What came is not of the protocol, or there is no TLS.
    Garbage,
    /// An answer that is neither a document nor NOT_FOUND.
    Unfit,
    /// The origin is full, or asked for a pause.
    Full,
}

impl FailureKind {
    /// That of an answer; `None` if it is sound, or the failure is this proxy's own.
    pub(super) fn of(answer: &Result<Brought, Unmet>) -> Option<Self> {
        Some(match answer {
            Ok(_) => return None,
            Err(Unmet::Unfit { fault: Fault::Ours, .. }) => return None,
            Err(Unmet::Unfit { fault: Fault::Full, .. } | Unmet::Unfit { wait: Some(_), .. }) => Self::Full,
            Err(Unmet::Unfit { .. }) => Self::Unfit,
            Err(Unmet::NoAnswer(error, _)) => match error {
                LinkError::Refused | LinkError::Unresolved | LinkError::Tls(_) => Self::Unreachable,
                LinkError::Late => Self::Late,
                LinkError::Broken => Self::Closed,
                LinkError::Garbage => Self::Garbage,
                LinkError::TooLong | LinkError::NotText => Self::Unfit,
                LinkError::Busy | LinkError::Exhausted => return None,
            },
        })
    }
}

/// The failures since the start.
#[derive(Default)]
pub(super) struct Failures([Counter; 6]);

/// The failures by their kinds, for METRICS.
#[derive(Serialize)]
pub(super) struct ByKind {
    unreachable: u64,
    late: u64,
    closed: u64,
    garbage: u64,
    unfit: u64,
    full: u64,
}

impl Failures {
    pub(super) fn count(&self, kind: FailureKind) {
        self.0[kind as usize].add_one();
    }

    /// All of them.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    pub(super) fn by_kind(&self) -> ByKind {
        let of = |kind: FailureKind| self.0[kind as usize].get();
        ByKind {
            unreachable: of(FailureKind::Unreachable),
            late: of(FailureKind::Late),
            closed: of(FailureKind::Closed),
            garbage: of(FailureKind::Garbage),
            unfit: of(FailureKind::Unfit),
            full: of(FailureKind::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_once_under_its_kind() {
        let failures = Failures::default();
        let unfit = |fault, wait| Unmet::Unfit { fault, why: "".into(), wait };
        for unmet in [
            Unmet::NoAnswer(LinkError::Refused, "".into()),
            Unmet::NoAnswer(LinkError::Late, "".into()),
            Unmet::NoAnswer(LinkError::TooLong, "".into()),
            Unmet::NoAnswer(LinkError::Busy, "".into()),
            unfit(Fault::Doubt, None),
            unfit(Fault::Source, Some(std::time::Duration::ZERO)),
            unfit(Fault::Ours, None),
        ] {
            if let Some(kind) = FailureKind::of(&Err(unmet)) {
                failures.count(kind);
            }
        }
        let by = serde_json::to_value(failures.by_kind()).unwrap();
        let expected = serde_json::json!({
            "unreachable": 1, "late": 1, "closed": 0, "garbage": 0, "unfit": 2, "full": 1
        });
        assert_eq!((by, failures.total()), (expected, 5));
    }
}
