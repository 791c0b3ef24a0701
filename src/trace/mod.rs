//! One request on its way through the nodes: its id, and the steps that its time was spent on.
//!
//! The id comes with the `trace=` option of a session or in the `traceparent` of W3C Trace Context; a node with `--slow-log`
//! gives one to every other request. Log lines of the request carry the id, and links send it to the next node, with the
//! `traceparent`. With the Cargo feature `otlp` the request and its steps become spans (`spans`), which `run` exports. A
//! request without an id, at a node without `--slow-log` and spans, costs nothing here.

#[cfg(feature = "otlp")]
pub(crate) mod spans;
#[cfg(not(feature = "otlp"))]
#[path = "no_spans.rs"]
mod spans;

use std::fmt::Write;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, info_span, warn};

use self::spans::Span;
use crate::handler::{Answer, Ask, Handler};
use crate::lock::lock;
use crate::wire::{Reply, Request, TraceParent};

/// The limit of bytes of an id; a request with a longer one gets a new id.
const LONGEST_ID: usize = 64;
/// The limit of recorded steps: a request that is retried too often shows it by then.
const STEPS: usize = 16;

tokio::task_local! {
    static CURRENT: Trace;
}

/// A traced request.
#[derive(Clone)]
struct Trace(Arc<Recorded>);

struct Recorded {
    id: String,
    /// The parent of requests to other nodes: our own span, or the client's if we make none.
    parent: Option<TraceParent>,
    began: Instant,
    /// Name, begin (since the request's) and duration of each step. A std Mutex: nothing is awaited while it is locked.
    steps: Mutex<Vec<(String, Duration, Duration)>>,
}

impl Trace {
    fn new(id: Option<&str>, parent: Option<TraceParent>) -> Self {
        let fits = |id: &&str| id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
        let id = match (id.filter(fits), parent) {
            (Some(id), _) => id.to_owned(),
            (None, Some(parent)) => format!("{:032x}", parent.trace),
            (None, None) => format!("{:016x}", fastrand::u64(..)),
        };
        Self(Arc::new(Recorded { id, parent, began: Instant::now(), steps: Mutex::default() }))
    }

    fn ended(&self, slow: Duration, request: &str, from: IpAddr, reply: &Reply) {
        let took = self.0.began.elapsed();
        if took >= slow {
            warn!(
                target: "dproxy::slow",
                trace = self.0.id, %from, request, status = reply.status.as_str(), bytes = reply.told().bytes,
                took_ms = milliseconds(took), steps = self.steps(),
                "a slow request"
            );
        }
    }

    /// The steps as one text for the log.
    fn steps(&self) -> String {
        let mut text = String::new();
        for (name, after, took) in lock(&self.0.steps).iter() {
            let part = if text.is_empty() { "" } else { "; " };
            let (after, took) = (milliseconds(*after), milliseconds(*took));
            // A write to a String cannot fail.
            let _ = write!(text, "{part}{name} took {took} ms after {after} ms");
        }
        text
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// The handler's answer. The request is traced if it has an id, if spans are wanted, or with a `slow` time: one that takes
/// that long or longer is logged.
pub fn answer<H: Handler>(handler: &Arc<H>, ask: Ask<'_>, slow: Option<Duration>) -> Answer {
    let is_traced = slow.is_some() || ask.trace.is_some() || ask.parent.is_some() || spans::are_wanted();
    // A WATCH waits for something to happen: it is never slow.
    if !is_traced || matches!(ask.request, Request::Watch(_)) {
        return handler.answer(ask);
    }
    let parent = ask.parent.and_then(TraceParent::parse);
    let mut recorded = Span::of_request(&ask, parent);
    let trace = Trace::new(ask.trace, recorded.context().or(parent));
    let span = info_span!("request", trace = trace.0.id);
    let entered = span.enter();
    let answer = CURRENT.sync_scope(trace.clone(), || handler.answer(ask));
    drop(entered);
    let reply = match answer {
        Answer::Now(reply) => {
            recorded.replied(&reply);
            return Answer::Now(reply);
        }
        Answer::Later(reply) => reply,
    };
    let (mut request, from) = (Vec::new(), ask.from);
    ask.request.write(&mut request);
    let reply = CURRENT.scope(trace.clone(), reply).instrument(span);
    Answer::later(async move {
        let reply = reply.await;
        recorded.replied(&reply);
        if let Some(slow) = slow {
            trace.ended(slow, &String::from_utf8_lossy(&request), from, &reply);
        }
        reply
    })
}

/// A step of the current request, from here to the drop of the guard, also if it is cancelled; `None` outside a traced
/// request. A guard and not a wrapper: a future within a future is stored twice.
pub fn step(name: &'static str) -> Option<Step> {
    Step::begin(|parent| (name.to_owned(), Span::within(parent, name)))
}

/// A step that is a request to another node.
pub fn ask(host: &str, port: u16) -> Option<Step> {
    Step::begin(|parent| (format!("{host}:{port}"), Span::of_ask(parent, host, port)))
}

/// The guard of a step.
pub struct Step {
    trace: Trace,
    name: String,
    began: Instant,
    span: Span,
}

impl Step {
    fn begin(what: impl FnOnce(Option<TraceParent>) -> (String, Span)) -> Option<Self> {
        CURRENT
            .try_with(|trace| {
                let (name, span) = what(trace.0.parent);
                Step { trace: trace.clone(), name, began: Instant::now(), span }
            })
            .ok()
    }

    /// The step was not cancelled: it succeeded, or failed with this error.
    pub fn ended(&mut self, error: Option<&dyn std::error::Error>) {
        self.span.ended(error);
    }

    /// Writes ` trace=…` and ` traceparent=…`, for the request line to the next node.
    pub fn write_options(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b" trace=");
        out.extend_from_slice(self.trace.0.id.as_bytes());
        if let Some(parent) = self.span.context().or(self.trace.0.parent) {
            out.extend_from_slice(b" traceparent=");
            out.extend_from_slice(parent.to_string().as_bytes());
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let inner = &self.trace.0;
        let mut steps = lock(&inner.steps);
        if steps.len() < STEPS {
            let after = self.began.saturating_duration_since(inner.began);
            steps.push((std::mem::take(&mut self.name), after, self.began.elapsed()));
        }
    }
}

/// Work for a task of its own, as part of the current request.
pub fn carried<F: Future<Output = ()>>(work: F) -> impl Future<Output = ()> {
    let trace = CURRENT.try_with(Clone::clone).ok();
    let span = tracing::Span::current();
    async move {
        match trace {
            Some(trace) => CURRENT.scope(trace, work.instrument(span)).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cancelled_steps_are_recorded_as_well() {
        let trace = Trace::new(Some("abc"), None);
        CURRENT
            .scope(trace.clone(), async {
                let first = ask("a", 1).unwrap();
                let mut line = Vec::new();
                first.write_options(&mut line);
                assert_eq!(line, b" trace=abc");
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(first);
                let second = async {
                    let _step = step("the fetch");
                    tokio::time::sleep(Duration::from_secs(9)).await;
                };
                let _ = tokio::time::timeout(Duration::from_millis(50), second).await;
            })
            .await;
        assert_eq!(trace.steps(), "a:1 took 100 ms after 0 ms; the fetch took 50 ms after 100 ms");
    }

    #[tokio::test]
    async fn a_clients_id_is_bounded() {
        for id in ["", "x".repeat(65).as_str(), "a\u{7f}"] {
            assert_eq!(Trace::new(Some(id).filter(|id| !id.is_empty()), None).0.id.len(), 16);
        }
        assert!(step("the fetch").is_none(), "no request is traced");
    }

    #[tokio::test]
    async fn the_parent_goes_on() {
        const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        let trace = Trace::new(None, TraceParent::parse(PARENT));
        let mut line = Vec::new();
        CURRENT.sync_scope(trace, || ask("a", 1).unwrap().write_options(&mut line));
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, format!(" trace=0af7651916cd43dd8448eb211c80319c traceparent={PARENT}"));
    }
}
