//! A collector of spans: a Python program that decodes OTLP with the published messages.

use std::cell::RefCell;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::Receiver;

use serde_json::Value;

use super::command::{Background, clean, venv};
use super::node::lines_of;
use super::{PATIENCE, eventually};

/// The number of a kind of span in the protobuf.
pub(crate) const INTERNAL: u64 = 1;
pub(crate) const SERVER: u64 = 2;
pub(crate) const CLIENT: u64 = 3;

/// dproxy with the feature `otlp`; `None` if it was not built and this is not CI.
pub(crate) fn exporter() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/otlp/debug/dproxy");
    assert!(
        path.exists() || std::env::var_os("CI").is_none(),
        "{path:?} is not there; make it: cargo build --features otlp --target-dir target/otlp"
    );
    path.exists().then(|| path.to_string_lossy().into_owned())
}

/// A running collector; it ends on drop.
pub(crate) struct Collector {
    _child: Background,
    printed: Receiver<String>,
    port: u16,
    seen: RefCell<Vec<Value>>,
}

impl Collector {
    /// Starts the collector; `None` without its Python environment outside of CI.
    pub(crate) fn start() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/collector.py");
        let mut command = clean(&venv("python")?);
        let command = command.arg(script).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a collector");
        let printed = lines_of(child.stdout.take().expect("its standard output"));
        let mut collector = Self { _child: Background(child), printed, port: 0, seen: RefCell::default() };
        let port = collector.printed.recv_timeout(PATIENCE).expect("its port");
        collector.port = port.parse().expect("a port");
        Some(collector)
    }

    /// The address for spans.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let told = self.printed.try_iter().map(|line| serde_json::from_str(&line).expect("a span as JSON"));
        self.seen.borrow_mut().extend(told);
        self.seen.borrow().clone()
    }

    /// Waits for a span that fits the predicate.
    pub(crate) fn span(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.spans().into_iter().find(&is_it))
    }
}
