//! The report of a run: a table for people, a JSON object with stable names for scripts.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytesize::ByteSize;
use indicatif::HumanCount;
use serde::Serialize;
use tokio::time::Instant;

use super::measurements::{Failed, Measurements};
use super::{BenchConfig, Mode};
use crate::wire::Status;

/// The JSON object. Fields may be added; the names and meanings of those here do not change.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub(super) struct Report {
    /// The node, as `host:port`.
    pub target: String,
    /// Requests that were due in the measured time and ended, with a reply or without.
    pub requests: u64,
    /// The measured time, in seconds.
    pub seconds: f64,
    /// Valid replies per second.
    pub rps: f64,
    /// Bytes of valid replies per second.
    pub bytes_per_second: f64,
    /// Requests that did not end with status OK.
    pub errors: u64,
    /// Requests by status; those without a valid reply count as CLIENT_CONNECTION_ERROR.
    pub by_status: BTreeMap<&'static str, u64>,
    /// Requests without a valid reply, by cause: `refused`, `broken`, `late`, `bad_reply`, `status` or `not_sent`.
    pub failures: BTreeMap<&'static str, u64>,
    /// Cache hits among the replies with a `cache_hit` member, 0 to 1; `null` if no reply has one.
    pub hit_ratio: Option<f64>,
    /// `null` if no valid reply came.
    pub latency_ms: Option<LatencySummary>,
    /// Connections in all.
    pub connections: usize,
    /// Requests in flight on each connection.
    pub in_flight: usize,
    /// Threads of the load.
    pub threads: usize,
    /// `session`, `plain`, `http` or `http-plain`.
    pub mode: Mode,
    /// Requests due per second in an open loop; `null` for a closed loop.
    pub rate: Option<f64>,
    /// The delay of an open loop at its end, in seconds: requests that were due within it were not sent.
    pub behind_seconds: f64,
}

/// Latencies in milliseconds, from when a request was due to when its reply was whole.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub(super) struct LatencySummary {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The average.
    pub mean: f64,
}

impl Report {
    /// The report of a run that ended at `ended`.
    pub(super) fn new(config: &BenchConfig, measurements: &Measurements, ended: Instant) -> Self {
        let times = measurements.times;
        let end = times.end.map_or(measurements.last.unwrap_or(ended), |end| end.min(ended));
        let seconds = end.saturating_duration_since(times.measured_from).as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let failures = Failed::ALL.map(|failure| (failure.as_str(), measurements.failed(failure)));
        let mut by_status: BTreeMap<&str, u64> =
            Status::ALL.map(|status| (status.as_str(), measurements.status(status))).into();
        by_status.insert(Status::ClientConnectionError.as_str(), failures.iter().map(|(_, n)| n).sum());
        by_status.retain(|status, count| *count > 0 || *status == Status::Ok.as_str());
        let hits_and_misses = measurements.hits + measurements.misses;
        Self {
            target: config.peer.to_string(),
            requests: measurements.requests(),
            seconds,
            rps: per_second(measurements.replies_measured),
            bytes_per_second: per_second(measurements.bytes_measured),
            errors: measurements.errors(),
            by_status,
            failures: failures.into_iter().filter(|(_, count)| *count > 0).collect(),
            hit_ratio: (hits_and_misses > 0).then(|| measurements.hits as f64 / hits_and_misses as f64),
            latency_ms: LatencySummary::of(measurements),
            connections: config.connections,
            in_flight: config.in_flight(),
            threads: config.threads(),
            mode: config.mode,
            rate: config.rate,
            behind_seconds: measurements.behind.as_secs_f64(),
        }
    }

    /// One line of JSON, without its end.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// A table; its last line has no end.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}: {}", self.target, counted(self.connections as u64, "connection"));
        let _ = match self.mode {
            Mode::Session => write!(out, ", sessions with {} in flight each", self.in_flight),
            Mode::Plain => write!(out, " at once, one for each request"),
            Mode::Http => write!(out, ", HTTP kept alive"),
            Mode::HttpPlain => write!(out, " at once, HTTP, one for each request"),
        };
        if let Some(rate) = self.rate {
            let _ = write!(out, ", {} due a second", HumanCount(rate.round() as u64));
        }
        if self.threads > 1 {
            let _ = write!(out, ", {} threads", self.threads);
        }
        let mut row = |name: &str, value: &str, rest: &str| {
            let _ = write!(out, "\n  {name:<12}{value:>14}  {rest}");
        };
        row("time", &format!("{:.3} s", self.seconds), "");
        row("requests", &HumanCount(self.requests).to_string(), "");
        row("replies", &format!("{}/s", HumanCount(self.rps.round() as u64)), "");
        row("received", &format!("{}/s", ByteSize(self.bytes_per_second as u64)), "");
        let hits = self.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0));
        row("cache hits", &hits, "");
        row("errors", &HumanCount(self.errors).to_string(), "");
        for (status, count) in self.by_status.iter().filter(|(status, _)| **status != Status::Ok.as_str()) {
            let why: Vec<String> = match *status == Status::ClientConnectionError.as_str() {
                true => {
                    self.failures.iter().map(|(why, count)| format!("{why} {}", HumanCount(*count))).collect()
                }
                false => Vec::new(),
            };
            row("", &HumanCount(*count).to_string(), format!("{status}  {}", why.join(", ")).trim_end());
        }
        if let Some(latency) = &self.latency_ms {
            out.push_str("\n\n  latency   ");
            let columns = [
                ("p50", latency.p50),
                ("p90", latency.p90),
                ("p99", latency.p99),
                ("p99.9", latency.p999),
                ("max", latency.max),
                ("mean", latency.mean),
            ];
            columns.iter().for_each(|(name, _)| out.extend([format!("{name:>10}")]));
            out.push_str("\n  ms        ");
            columns.iter().for_each(|(_, ms)| out.extend([format!("{ms:>10.3}")]));
        }
        let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
        lines.join("\n")
    }
}

impl LatencySummary {
    fn of(measurements: &Measurements) -> Option<Self> {
        let latency = &measurements.latency;
        let ms = |nanos: u64| round(nanos as f64 / 1e6);
        (!latency.is_empty()).then(|| Self {
            p50: ms(latency.value_at_quantile(0.5)),
            p90: ms(latency.value_at_quantile(0.9)),
            p99: ms(latency.value_at_quantile(0.99)),
            p999: ms(latency.value_at_quantile(0.999)),
            max: ms(latency.max()),
            mean: round(latency.mean() / 1e6),
        })
    }
}

/// Rounds milliseconds to whole microseconds, which is as exact as they are measured.
fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::config::tests::config;
    use crate::bench::schedule::RunTimes;

    fn report() -> Report {
        let start = Instant::now();
        let end = start + Duration::from_secs(2);
        let mut measurements = Measurements::new(RunTimes { start, measured_from: start, end: Some(end) });
        let ms = Duration::from_millis(1);
        for _ in 0..3 {
            measurements.reply(start, start + ms, br#"{"status":"OK","data":1,"cache_hit":true,"node":1}"#);
        }
        measurements.reply(
            start,
            start + 2 * ms,
            br#"{"status":"NOT_FOUND","data":null,"cache_hit":false,"node":1}"#,
        );
        measurements.failure(start, start + ms, Failed::Late);
        Report::new(&config(), &measurements, end)
    }

    #[test]
    fn scripts_find_the_fields() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        assert_eq!((&json["requests"], &json["errors"], &json["rps"]), (&5.into(), &2.into(), &2.0.into()));
        let by_status = serde_json::json!({"OK": 3, "NOT_FOUND": 1, "CLIENT_CONNECTION_ERROR": 1});
        assert_eq!((&json["by_status"], &json["failures"]["late"]), (&by_status, &1.into()));
        assert_eq!(
            (&json["hit_ratio"], &json["seconds"], &json["mode"]),
            (&0.75.into(), &2.0.into(), &"session".into())
        );
        for name in ["p50", "p90", "p99", "p999", "max", "mean"] {
            assert!(json["latency_ms"][name].as_f64().unwrap() >= 0.999, "{name}");
        }
    }

    #[test]
    fn people_find_a_table() {
        let text = report().text();
        for part in [
            "127.0.0.1:8001: 64 connections, sessions with 16 in flight each",
            "75.00 %",
            "NOT_FOUND",
            "late 1",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(text.lines().all(|line| line == line.trim_end() && line.len() < 100), "{text}");
    }
}
