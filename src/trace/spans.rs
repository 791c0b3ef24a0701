//! Spans of OpenTelemetry: one for a request at this node, beneath it one for each of its steps.
//!
//! A sampler chooses the requests that are recorded; of the others only its decision is sent to the next node. A dropped
//! span goes into the bounded queue of the exporter, which no request waits for.

use std::error::Error;
use std::sync::OnceLock;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status as Outcome, TraceContextExt, TraceFlags,
    TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span as Recorded};

use crate::handler::Ask;
use crate::wire::reply::Content;
use crate::wire::{Reply, ReplyView, Request, Status, TraceParent};

/// The source of spans, once there is an exporter.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Makes spans from now on.
pub(crate) fn begin(tracer: SdkTracer) {
    // A process has one exporter: that of the first call.
    let _ = TRACER.set(tracer);
}

/// Whether there is an exporter.
pub(super) fn are_wanted() -> bool {
    TRACER.get().is_some()
}

/// A span, if spans are wanted.
pub(super) struct Span(Option<Recorded>);

impl Span {
    /// The span of a request, from here until its reply. METRICS has none: it would be one for every poll of a balancer.
    pub(super) fn of_request(ask: &Ask<'_>, parent: Option<TraceParent>) -> Self {
        let (verb, key) = match ask.request {
            Request::Get(key) => ("GET", Some(key)),
            Request::Explain(key) => ("EXPLAIN", Some(key)),
            Request::Purge { .. } => ("PURGE", None),
            Request::Drain { .. } => ("DRAIN", None),
            Request::Undrain(_) => ("UNDRAIN", None),
            Request::Changed(_) => ("CHANGED", None),
            Request::Metrics | Request::MetricsOf(_) | Request::Hello | Request::Watch(_) => {
                return Self(None);
            }
        };
        let mut span = Self::start(verb, SpanKind::Server, parent, true);
        if let Some(key) = key {
            span.note("dproxy.key", || key.as_str().to_owned().into());
        }
        // An id of `trace=` is no trace id of OpenTelemetry, so it becomes an attribute.
        if let (Some(id), None) = (ask.trace, parent) {
            span.note("dproxy.trace", || id.to_owned().into());
        }
        span
    }

    /// The span of a request to another node.
    pub(super) fn of_ask(parent: Option<TraceParent>, host: &str, port: u16) -> Self {
        let Some(parent) = parent else { return Self(None) };
        let mut span = Self::start("ask", SpanKind::Client, Some(parent), false);
        span.note("server.address", || host.to_owned().into());
        span.note("server.port", || i64::from(port).into());
        span
    }

    /// The span of another step of a request.
    pub(super) fn within(parent: Option<TraceParent>, name: &'static str) -> Self {
        let Some(parent) = parent else { return Self(None) };
        Self::start(name, SpanKind::Internal, Some(parent), false)
    }

    fn start(name: &'static str, kind: SpanKind, parent: Option<TraceParent>, is_remote: bool) -> Self {
        let start = |tracer: &SdkTracer| {
            let parent = parent.map_or_else(Context::new, |parent| {
                Context::new().with_remote_span_context(context_of(parent, is_remote))
            });
            SpanBuilder::from_name(name).with_kind(kind).start_with_context(tracer, &parent)
        };
        Self(TRACER.get().map(start))
    }

    /// This span as the parent of others, here or at the next node.
    pub(super) fn context(&self) -> Option<TraceParent> {
        let context = self.0.as_ref()?.span_context();
        let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
        let sampled = context.trace_flags().is_sampled();
        context.is_valid().then(|| TraceParent {
            trace: u128::from_be_bytes(trace),
            span: u64::from_be_bytes(span),
            sampled,
        })
    }

    fn note(&mut self, name: &'static str, value: impl FnOnce() -> opentelemetry::Value) {
        if let Some(span) = self.0.as_mut().filter(|span| span.is_recording()) {
            span.set_attribute(KeyValue::new(name, value()));
        }
    }

    /// The request was answered.
    pub(super) fn replied(&mut self, reply: &Reply) {
        let Some(span) = self.0.as_mut().filter(|span| span.is_recording()) else { return };
        span.set_attribute(KeyValue::new("dproxy.status", reply.status.as_str()));
        let (hit, node) = match &reply.content {
            Content::Own { beside, .. } => {
                beside.served().map_or((None, None), |served| (Some(served.cache_hit), Some(served.node)))
            }
            Content::Relayed(line) => {
                ReplyView::parse(line).map_or((None, None), |line| (line.cache_hit, line.node))
            }
        };
        if let Some(hit) = hit {
            span.set_attribute(KeyValue::new("dproxy.cache_hit", hit));
        }
        if let Some(node) = node {
            span.set_attribute(KeyValue::new("dproxy.node", i64::from(node)));
        }
        match reply.status {
            // A client's error or a missing document is no failure of this node.
            Status::Ok | Status::NotFound | Status::BadRequest | Status::WrongMethod | Status::Forbidden => {}
            status => span.set_status(Outcome::error(status.as_str())),
        }
        span.end();
    }

    /// The step succeeded, or failed with this error.
    pub(super) fn ended(&mut self, error: Option<&dyn Error>) {
        let Some(span) = self.0.as_mut() else { return };
        if let Some(error) = error {
            span.set_status(Outcome::error(error.to_string()));
        }
        span.end();
    }
}

fn context_of(parent: TraceParent, is_remote: bool) -> SpanContext {
    let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace, span) = (TraceId::from(parent.trace), SpanId::from(parent.span));
    SpanContext::new(trace, span, flags, is_remote, TraceState::NONE)
}
