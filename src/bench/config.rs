//! What a run is told: whom to ask, what, how hard and how long.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::keys::KeyRange;
use crate::net::link::Peer;

/// A run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom to ask.
    pub peer: Peer,
    /// Connections in all.
    pub connections: usize,
    /// Requests in flight on each; one where each has its own connection.
    pub in_flight: usize,
    /// Threads, each with a runtime of its own.
    pub threads: usize,
    /// When it ends.
    pub length: Length,
    /// How long to ask before anything is counted.
    pub warmup: Duration,
    /// A reply must come within this time from when its request was due.
    pub timeout: Duration,
    /// Requests due in a second, whether the node keeps up or not; without, as many as it answers.
    pub rate: Option<f64>,
    /// How to ask.
    pub mode: Mode,
    /// What to ask for.
    pub keys: KeySource,
    /// Ask for earlier keys oftener, by Zipf's law with this exponent; in turn without.
    pub zipf: Option<f64>,
    /// Where the choice of keys begins.
    pub seed: u64,
    /// How to say what was found.
    pub output: Output,
}

/// When a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// After a time, the warm-up not counted.
    Time(Duration),
    /// After so many requests, those of the warm-up not counted.
    Requests(u64),
}

/// How requests are sent.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Many on one connection.
    Session,
    /// A connection for each.
    Plain,
}

/// Where keys come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// A file with a key a line; `-` is standard input.
    File(PathBuf),
    /// A range.
    Range(KeyRange),
}

/// How to say what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// A table.
    Text,
    /// A line of JSON.
    Json,
}

impl Config {
    /// No more than there are connections.
    pub(super) fn threads(&self) -> usize {
        self.threads.clamp(1, self.connections.max(1))
    }

    pub(super) fn in_flight(&self) -> usize {
        match self.mode {
            Mode::Session => self.in_flight,
            Mode::Plain => 1,
        }
    }

    pub(super) fn requests(&self) -> Option<u64> {
        match self.length {
            Length::Requests(count) => Some(count),
            Length::Time(_) => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn config() -> Config {
        Config {
            peer: Peer { host: "127.0.0.1".to_owned(), port: 8001 },
            connections: 64,
            in_flight: 16,
            threads: 1,
            length: Length::Time(Duration::from_secs(2)),
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(5),
            rate: None,
            mode: Mode::Session,
            keys: KeySource::Range("article/1..12".parse().unwrap()),
            zipf: None,
            seed: 1,
            output: Output::Text,
        }
    }

    #[test]
    fn there_are_no_more_threads_than_connections() {
        assert_eq!(Config { threads: 9, connections: 2, ..config() }.threads(), 2);
        assert_eq!(Config { mode: Mode::Plain, ..config() }.in_flight(), 1);
    }
}
