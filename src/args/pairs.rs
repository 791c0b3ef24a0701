//! Limits that must agree between roles: each is valid by itself, and yet they do not fit together. Pure.

use std::fmt;
use std::time::Duration;

use super::defaults;

/// The value of a setting.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub enum Amount {
    /// A time.
    Time(Duration),
    /// Bytes.
    Size(usize),
}

impl Amount {
    fn times(self, factor: u32) -> Self {
        match self {
            Self::Time(time) => Self::Time(time * factor),
            Self::Size(bytes) => Self::Size(bytes.saturating_mul(factor as usize)),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => humantime::format_duration(*time).fmt(f),
            Self::Size(bytes) => f.write_str(&defaults::size(*bytes)),
        }
    }
}

/// A setting: the table of its role, and its flag as clap knows it.
type Setting = (&'static str, &'static str);

/// Two settings that must fit together: the greater is `factor` times the smaller at the least.
struct Pair {
    smaller: Setting,
    greater: Setting,
    factor: u32,
    /// Whether as much is too little.
    is_strict: bool,
    /// What happens otherwise.
    otherwise: &'static str,
    /// Whether the two contradict each other otherwise: no node starts so.
    is_refused: bool,
}

const fn pair(smaller: Setting, greater: Setting, otherwise: &'static str) -> Pair {
    Pair { smaller, greater, factor: 1, is_strict: false, otherwise, is_refused: false }
}

/// The least and the most of one thing.
const fn range(least: Setting, most: Setting) -> Pair {
    Pair { is_refused: true, ..pair(least, most, "nothing lies between them") }
}

const PAIRS: [Pair; 10] = [
    Pair {
        is_strict: true,
        ..pair(
            ("proxy", "fetch_deadline"),
            ("lb", "try_deadline"),
            "a slow fetch looks like a proxy that fails",
        )
    },
    pair(
        ("proxy", "max_document"),
        ("lb", "max_document"),
        "the balancer refuses documents that the proxies serve",
    ),
    pair(
        ("origin", "max_document"),
        ("proxy", "max_document"),
        "the proxies refuse documents that the origin serves",
    ),
    Pair {
        factor: 16,
        ..pair(
            ("proxy", "max_document"),
            ("proxy", "max_bytes"),
            "the largest documents are served and never kept, as one takes a sixteenth at most",
        )
    },
    range(("proxy", "min_ttl"), ("proxy", "max_ttl")),
    range(("lb", "backoff"), ("lb", "max_backoff")),
    Pair {
        is_strict: true,
        ..pair(
            ("lb", "health_interval"),
            ("proxy", "idle_deadline"),
            "a proxy closes its session between two polls",
        )
    },
    pair(("lb", "try_deadline"), ("client", "timeout"), "the client gives up before the balancer does"),
    pair(("proxy", "fetch_deadline"), ("proxy", "drain"), "a stop cuts fetches that are under way"),
    pair(("lb", "try_deadline"), ("lb", "drain"), "a stop cuts requests that are under way"),
];

/// A pair that does not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit {
    /// Which two, and what happens, in a sentence.
    pub advice: String,
    /// Whether no node starts with these two.
    pub is_refused: bool,
}

/// The pairs that do not fit; `amount` has the value of a setting of a role, if it is known.
pub fn misfits(amount: impl Fn(&str, &str) -> Option<Amount>) -> Vec<Misfit> {
    let misfit = |pair: &Pair| {
        let of = |(role, id): Setting| amount(role, id);
        let (smaller, greater) = (of(pair.smaller)?, of(pair.greater)?);
        let least = smaller.times(pair.factor);
        let fits = if pair.is_strict { greater > least } else { greater >= least };
        let name = |(role, id): Setting| format!("[{role}] {}", id.replace('_', "-"));
        let relation = match (pair.is_strict, pair.factor) {
            (true, _) => "greater than".to_owned(),
            (false, 1) => "no less than".to_owned(),
            (false, factor) => format!("at least {factor} times"),
        };
        (!fits).then(|| Misfit {
            advice: format!(
                "{} ({greater}) should be {relation} {} ({smaller}): {}",
                name(pair.greater),
                name(pair.smaller),
                pair.otherwise
            ),
            is_refused: pair.is_refused,
        })
    };
    PAIRS.iter().filter_map(misfit).collect()
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    use super::*;
    use crate::args::Cli;

    #[test]
    fn every_setting_of_the_table_exists() {
        let command = Cli::command();
        let is_there = |(role, id): Setting| {
            let role: Option<&Command> = command.find_subcommand(role);
            role.is_some_and(|role| role.get_arguments().any(|arg| arg.get_id() == id))
        };
        for pair in &PAIRS {
            assert!(
                is_there(pair.smaller) && is_there(pair.greater),
                "{:?} {:?}",
                pair.smaller,
                pair.greater
            );
        }
    }

    #[test]
    fn a_pair_that_does_not_fit_is_told_with_both_values() {
        let seconds = |seconds| Some(Amount::Time(Duration::from_secs(seconds)));
        let told = |fetch, attempt| {
            misfits(|_, id| match id {
                "fetch_deadline" => seconds(fetch),
                "try_deadline" => seconds(attempt),
                _ => None,
            })
        };
        let text = "[lb] try-deadline (2s) should be greater than [proxy] fetch-deadline (2s): a slow fetch looks like a proxy that fails";
        let misfit = Misfit { advice: text.to_owned(), is_refused: false };
        assert_eq!((told(2, 2), told(2, 3)), (vec![misfit], Vec::new()));
        let sizes = misfits(|role, id| match (role, id) {
            ("proxy", "max_bytes") => Some(Amount::Size(1 << 20)),
            ("proxy", "max_document") => Some(Amount::Size(1 << 20)),
            _ => None,
        });
        assert!(
            sizes[0].advice.starts_with(
                "[proxy] max-bytes (1MiB) should be at least 16 times [proxy] max-document (1MiB)"
            )
        );
    }
}
