//! Load by `dproxy bench` in its own process, and its result.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// The result of a run.
pub(crate) struct Found(Value);

/// Runs `dproxy bench` with these flags against a node.
pub(crate) async fn bench(to: SocketAddr, words: &str) -> Found {
    run(Command::new(env!("CARGO_BIN_EXE_dproxy")), to, words).await
}

/// Runs `dproxy bench` pinned to some of the processors.
pub(crate) async fn bench_on(cpus: &str, to: SocketAddr, words: &str) -> Found {
    let mut command = Command::new("taskset");
    command.args(["-c", cpus, env!("CARGO_BIN_EXE_dproxy")]);
    run(command, to, words).await
}

async fn run(mut command: Command, to: SocketAddr, words: &str) -> Found {
    let port = to.port().to_string();
    let command = command.args(["bench", "--port", &port, "--output", "json"]).args(words.split_whitespace());
    let output = command.stderr(Stdio::null()).kill_on_drop(true).output().await.expect("it runs");
    Found(serde_json::from_slice(&output.stdout).expect("a JSON object"))
}

impl Found {
    fn number(&self, path: &str) -> f64 {
        self.0.pointer(path).and_then(Value::as_f64).unwrap_or_default()
    }

    /// Requests that ended in the measured time.
    pub(crate) fn requests(&self) -> f64 {
        self.number("/requests")
    }

    /// Replies per second.
    pub(crate) fn rps(&self) -> f64 {
        self.number("/rps")
    }

    /// Replies with this status.
    pub(crate) fn status(&self, status: &str) -> f64 {
        self.number(&format!("/by_status/{status}"))
    }

    /// Replies with any other status.
    pub(crate) fn other_than(&self, statuses: &[&str]) -> f64 {
        self.requests() - statuses.iter().map(|status| self.status(status)).sum::<f64>()
    }

    /// Milliseconds: `p50`, `p99`, `p999`, `max`.
    pub(crate) fn ms(&self, which: &str) -> f64 {
        self.number(&format!("/latency_ms/{which}"))
    }
}

/// The median.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}
