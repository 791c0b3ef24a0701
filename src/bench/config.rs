//! The configuration of a run.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::keys::KeyRange;
use crate::net::link::Peer;
use crate::net::tls::PeerTls;
use crate::terminal::Format;

/// Which node to put load on, which documents to ask for, how hard and how long.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// The node.
    pub peer: Peer,
    /// TLS to it; `None` for plain text.
    pub tls: Option<PeerTls>,
    /// Connections in all.
    pub connections: usize,
    /// Requests in flight on each session; always 1 in other modes.
    pub in_flight: usize,
    /// Threads, each with a runtime of its own.
    pub threads: usize,
    /// When the run ends.
    pub length: Length,
    /// The time at the beginning of the run from which no request is counted.
    pub warmup: Duration,
    /// A request fails without a reply within this time after it was due.
    pub timeout: Duration,
    /// Open loop: requests due per second, whether the node keeps up or not. `None` is a closed loop: the next request is
    /// sent when a reply comes.
    pub rate: Option<f64>,
    /// How requests are sent.
    pub mode: Mode,
    /// The documents to ask for.
    pub keys: KeySource,
    /// Choose keys by Zipf's law with this exponent, the first key most often. `None` takes each in turn.
    pub zipf: Option<f64>,
    /// The seed of the random choice: the same seed chooses the same keys.
    pub seed: u64,
    /// The form of the report.
    pub output: Format,
}

/// When a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// After this time, the warm-up not included.
    Time(Duration),
    /// After this number of requests, those of the warm-up not included.
    Requests(u64),
}

/// How requests are sent.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Many on each connection.
    Session,
    /// A connection for each request.
    Plain,
    /// HTTP/1.1, one at a time on each connection.
    Http,
    /// HTTP/1.1, a connection for each request.
    HttpPlain,
}

/// Where keys come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// A file with one key on each line; `-` is standard input.
    File(PathBuf),
    /// Keys that end in consecutive numbers.
    Range(KeyRange),
}

impl BenchConfig {
    /// At most one for each connection.
    pub(super) fn threads(&self) -> usize {
        self.threads.clamp(1, self.connections.max(1))
    }

    pub(super) fn in_flight(&self) -> usize {
        match self.mode {
            Mode::Session => self.in_flight,
            Mode::Plain | Mode::Http | Mode::HttpPlain => 1,
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

    pub(in crate::bench) fn config() -> BenchConfig {
        BenchConfig {
            tls: None,
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
            output: Format::Text,
        }
    }

    #[test]
    fn there_are_no_more_threads_than_connections() {
        assert_eq!(BenchConfig { threads: 9, connections: 2, ..config() }.threads(), 2);
        assert_eq!(BenchConfig { mode: Mode::Plain, ..config() }.in_flight(), 1);
    }
}
