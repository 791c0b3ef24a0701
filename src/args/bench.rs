//! The flags of `dproxy bench`, and the run that they describe.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::{PeerArgs, units};
use crate::bench::{BenchConfig, KeyRange, KeySource, Length, Mode};
use crate::net::link::Peer;
use crate::terminal::Format;

/// The limit of requests in flight on one connection.
const MOST_IN_FLIGHT: u64 = 65_536;
/// The default warm-up of a run that is limited by time.
const WARMUP: Duration = Duration::from_secs(1);

/// Flags of `dproxy bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// The host to ask.
    #[arg(long, env = "DPROXY_HOST", default_value = "127.0.0.1", value_parser = units::host)]
    pub host: String,
    /// The port to ask.
    #[arg(long, env = "DPROXY_PORT", default_value = "9000", value_parser = units::port_there)]
    pub port: u16,
    /// TLS to the node.
    #[command(flatten)]
    pub tls: PeerArgs,
    /// How to ask.
    #[command(flatten)]
    pub load: LoadArgs,
    /// What to ask for.
    #[command(flatten)]
    pub keys: KeysArgs,
    /// How to say what was found.
    #[arg(
        long,
        env = "DPROXY_OUTPUT",
        default_value = "text",
        value_name = "FORMAT",
        help_heading = "Result"
    )]
    pub output: Format,
}

/// How to ask, and for how long.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Connections in all, each with a session of its own.
    #[arg(long, env = "DPROXY_CONNECTIONS", default_value = "64", value_parser = units::count, value_name = "N")]
    pub connections: usize,
    /// Requests in flight on each session.
    #[arg(long, env = "DPROXY_IN_FLIGHT", default_value = "16",
        value_parser = clap::value_parser!(u64).range(1..=MOST_IN_FLIGHT), value_name = "N")]
    pub in_flight: u64,
    /// A connection for each request instead of sessions.
    #[arg(long, env = "DPROXY_PLAIN")]
    pub plain: bool,
    /// HTTP/1.1 instead of lines, to any server: one request at a time on each connection, which is kept alive; with --plain
    /// each request has a connection of its own. --port names the port of HTTP.
    #[arg(long, env = "DPROXY_HTTP")]
    pub http: bool,
    /// How long to ask.
    #[arg(long, env = "DPROXY_DURATION", default_value = "10s", value_parser = units::positive_duration,
        value_name = "TIME", conflicts_with = "requests")]
    pub duration: Duration,
    /// How many requests to ask, instead [default: as many as --duration gives time for].
    #[arg(long, env = "DPROXY_REQUESTS", value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub requests: Option<u64>,
    /// How long to ask before anything is counted [default: 1s; none with --requests].
    #[arg(long, env = "DPROXY_WARMUP", value_parser = units::duration, value_name = "TIME")]
    pub warmup: Option<Duration>,
    /// So many requests are due in a second, whether the node keeps up or not; latency counts from when each was due
    /// [default: as many as the node answers].
    #[arg(long, env = "DPROXY_RATE", value_parser = rate, value_name = "N")]
    pub rate: Option<f64>,
    /// A reply must come within this time from when its request was due.
    #[arg(long, env = "DPROXY_TIMEOUT", default_value = "5s", value_parser = units::positive_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// Threads that ask, each with a part of the connections.
    #[arg(long, env = "DPROXY_THREADS", default_value = "1", value_parser = units::few(), value_name = "N")]
    pub threads: usize,
}

/// What to ask for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Keys")]
pub struct KeysArgs {
    /// Documents whose paths stand in a file, one a line, in the order of the file; - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "key_range")]
    pub keys: Option<PathBuf>,
    /// Documents whose paths end in numbers, from the first to the last.
    #[arg(long, env = "DPROXY_KEY_RANGE", default_value = "article/1..12", value_name = "RANGE")]
    pub key_range: KeyRange,
    /// Choose by Zipf's law with this exponent, the first the oftenest; 0 chooses evenly
    /// [default: each in turn].
    #[arg(long, env = "DPROXY_ZIPF", value_parser = exponent, value_name = "S")]
    pub zipf: Option<f64>,
    /// The same seed chooses the same keys.
    #[arg(long, env = "DPROXY_SEED", default_value = "1", value_name = "N")]
    pub seed: u64,
}

impl BenchArgs {
    /// The run that the flags describe.
    ///
    /// # Errors
    /// In a sentence, when a file of TLS is not what it should be.
    pub fn config(&self) -> Result<BenchConfig, String> {
        let (load, keys) = (&self.load, &self.keys);
        let warmup = load.warmup.unwrap_or(if load.requests.is_some() { Duration::ZERO } else { WARMUP });
        Ok(BenchConfig {
            peer: Peer { host: self.host.clone(), port: self.port },
            tls: self.tls.load()?,
            connections: load.connections,
            in_flight: load.in_flight as usize,
            threads: load.threads,
            length: load.requests.map_or(Length::Time(load.duration), Length::Requests),
            warmup,
            timeout: load.timeout,
            rate: load.rate,
            mode: match (load.http, load.plain) {
                (false, false) => Mode::Session,
                (false, true) => Mode::Plain,
                (true, false) => Mode::Http,
                (true, true) => Mode::HttpPlain,
            },
            keys: keys.keys.clone().map_or(KeySource::Range(keys.key_range.clone()), KeySource::File),
            zipf: keys.zipf,
            seed: keys.seed,
            output: self.output,
        })
    }
}

/// Requests in a second; fractions are fine.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("write a number of requests in a second, such as 5000 or 0.5".to_owned()),
    }
}

fn exponent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(exponent) if (0.0..=100.0).contains(&exponent) => Ok(exponent),
        _ => Err("write an exponent such as 1.0, at least 0".to_owned()),
    }
}
