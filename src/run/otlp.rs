//! The export of spans to a collector: OTLP as protobuf over HTTP, on a thread of the SDK.
//!
//! ```text
//!   a span ends ──▶ bounded queue ──thread──▶ batch ──▶ POST /v1/traces
//!                    full: dropped                     refused, late: dropped, and logged once
//! ```
//! The settings are the variables of OpenTelemetry (`OTEL_…`), which the SDK reads itself; `--otlp-endpoint` takes precedence
//! over its variable. The queue is flushed at the end of the process.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::net::dial;
use crate::trace::spans;

/// The limit of bytes of a collector's answer.
const MAX_ANSWER: usize = 64 * 1024;
/// The deadline of an export without `OTEL_EXPORTER_OTLP_TIMEOUT`.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running export.
pub(super) struct Export(SdkTracerProvider);

impl Export {
    /// Sends the queued spans, within this time.
    pub(super) fn flush(self, within: Duration) {
        // A failed export has been logged; spans later than `within` are lost.
        let _ = self.0.shutdown_with_timeout(within);
    }
}

/// Begins to export the spans of `role`, if a collector is named by the flag or by a variable.
pub(super) fn start(flag: Option<&str>, role: &str) -> Result<Option<Export>> {
    let Some(endpoint) = endpoint(flag) else { return Ok(None) };
    let uri: Uri = endpoint.parse().with_context(|| format!("the OTLP endpoint {endpoint:?} is no URL"))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        bail!(
            "the OTLP endpoint {endpoint:?} is no http:// URL; run a collector beside this node, which speaks TLS"
        );
    }
    if let Some(protocol) = variable("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
        bail!(
            "OTLP is spoken as http/protobuf here, not as {protocol:?}; the port for that is 4318 as a rule"
        );
    }
    let exporter =
        SpanExporter::builder().with_http().with_http_client(Client::new()?).with_endpoint(&endpoint).build();
    let exporter = LoggedExporter {
        inner: exporter.context("OTLP cannot be exported")?,
        endpoint,
        is_away: AtomicBool::new(false),
    };
    let mut resource = Resource::builder();
    let is_named = |name: &str, by: &str| std::env::var(name).is_ok_and(|set| set.contains(by));
    if !is_named("OTEL_SERVICE_NAME", "") && !is_named("OTEL_RESOURCE_ATTRIBUTES", "service.name=") {
        resource = resource.with_service_name(format!("dproxy-{role}"));
    }
    let provider =
        SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
    spans::begin(provider.tracer("dproxy"));
    Ok(Some(Export(provider)))
}

/// The URL for spans; `None` without a collector.
fn endpoint(flag: Option<&str>) -> Option<String> {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set.eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let of_all = |base: &str| format!("{}/v1/traces", base.trim_end_matches('/'));
    let named = || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    flag.map(of_all).or_else(named).or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| of_all(&base)))
}

/// A setting of the exporter; the variable for traces takes precedence over the one for all signals.
fn variable(name: &str) -> Option<String> {
    let of = |prefix: &str| std::env::var(format!("OTEL_EXPORTER_OTLP_{prefix}{name}")).ok();
    of("TRACES_").or_else(|| of("")).filter(|value| !value.is_empty())
}

/// An exporter that logs the first failure and the first success after it, not each failure between.
struct LoggedExporter {
    inner: SpanExporter,
    endpoint: String,
    is_away: AtomicBool,
}

impl fmt::Debug for LoggedExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl opentelemetry_sdk::trace::SpanExporter for LoggedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.inner.export(batch).await;
        let was_away = self.is_away.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_away => {
                warn!(collector = self.endpoint, %error, "spans are lost until the collector is back");
            }
            Ok(()) if was_away => info!(collector = self.endpoint, "spans are exported again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The HTTP client of the exporter. Each batch gets a connection of its own: there is one every few seconds.
#[derive(Debug)]
struct Client {
    runtime: Runtime,
    patience: Duration,
}

impl Client {
    fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let patience =
            variable("TIMEOUT").and_then(|ms| ms.parse().ok()).map_or(PATIENCE, Duration::from_millis);
        Ok(Self { runtime: runtime.context("no runtime for OTLP")?, patience })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The exporter calls this on a thread of its own, outside of any runtime: it may block.
        self.runtime.block_on(async { timeout(self.patience, post(request, self.patience)).await? })
    }
}

async fn post(request: Request<Bytes>, patience: Duration) -> Result<Response<Bytes>, HttpError> {
    let mut request = request.map(Full::new);
    let uri = std::mem::take(request.uri_mut());
    let authority = uri.authority().ok_or("an endpoint without a host")?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = dial::dial(host, authority.port_u16().unwrap_or(80), patience).await?.stream;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asked = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // hyper's connection has to be polled while the answer is awaited.
    tokio::select! {
        answer = asked => answer,
        Err(error) = connection => Err(error.into()),
    }
}
