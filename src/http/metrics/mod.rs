//! `/metrics`: the counters of a node in the text formats of Prometheus and OpenMetrics.
//!
//! The numbers are those of METRICS, so the two never disagree; `families` has their names and meanings.

mod families;
mod process;
mod text;

use std::fmt;
use std::time::UNIX_EPOCH;

use hyper::HeaderMap;
use hyper::header::ACCEPT;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Map, Value};

use self::families::{Family, NODE, ONE};
use self::process::Process;
use super::accept::weighted;
use super::site::Site;
use crate::handler::Handler;
use crate::pool;
use crate::stats::Durations;

/// The formats of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format that `Accept` weighs most; the older one unless the header names the newer one.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let (mut newer, mut older) = (0.0_f32, 0.0_f32);
        for (name, weight) in weighted(headers, ACCEPT) {
            match name.as_str() {
                "application/openmetrics-text" | "application/*" => newer = newer.max(weight),
                "text/plain" | "text/*" | "*/*" => older = older.max(weight),
                _ => {}
            }
        }
        if newer > 0.0 && newer >= older { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of this moment as text.
pub(super) async fn render<H: Handler>(site: &Site<H>, format: Format) -> Result<String, fmt::Error> {
    let snapshot = Snapshot::take(site).await;
    // Long where there are many nodes: not written on a thread that serves connections.
    pool::run(move || written(snapshot, format)).await.unwrap_or(Err(fmt::Error))
}

fn written(snapshot: Snapshot, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Prometheus => text::to_prometheus(&text),
    })
}

/// The numbers of one moment.
#[derive(Debug)]
struct Snapshot {
    role: &'static str,
    metrics: Value,
    by_status: Vec<(&'static str, u64)>,
    durations: Durations,
    in_flight: u64,
    connections: u64,
    process: Process,
}

impl Snapshot {
    async fn take<H: Handler>(site: &Site<H>) -> Self {
        let counters = site.handler.counters();
        let by_status = counters.by_status().map(|(status, count)| (status.as_str(), count));
        Self {
            role: site.config.role.as_str(),
            metrics: site.metrics().await,
            by_status: by_status.filter(|(name, count)| *name == "OK" || *count > 0).collect(),
            durations: counters.durations(),
            in_flight: counters.in_flight(),
            // Viewers of the live page are no clients.
            connections: site.door.open().saturating_sub(site.page.receiver_count()) as u64,
            process: Process::now(),
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        let name = "dproxy_requests";
        let mut requests = out.encode_descriptor(
            name,
            "Requests by the status of the reply: GETs, and all that was refused",
            None,
            MetricType::Counter,
        )?;
        for (status, count) in &self.by_status {
            requests
                .encode_family(&[("status", *status)])?
                .encode_counter::<NoLabels, _, u64>(count, None)?;
        }
        let buckets: Vec<(f64, u64)> = self.durations.buckets().collect();
        out.encode_descriptor(
            "dproxy_request_duration",
            "Time from a request that was read to its reply; answers at once are timed one in 64",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?
        .encode_histogram::<NoLabels>(
            self.durations.sum_seconds(),
            self.durations.count(),
            &buckets,
            None,
        )?;
        gauge(out, "dproxy_requests_in_flight", "GETs that wait for another node", None, &self.in_flight)?;
        gauge(out, "dproxy_http_connections", "HTTP connections that are open", None, &self.connections)?;
        for family in ONE {
            if let Some(value) = family.value(&self.metrics) {
                family.encode_one(out, value)?;
            }
        }
        let (name, help) = ("dproxy_cache_evictions_by_bound", "Evictions by the bound that they kept");
        self.encode_by(out, "evictions_by", "bound", name, help)?;
        self.encode_origin(out)?;
        self.encode_certificates(out)?;
        if let Some(nodes) = self.metrics["proxies"].as_object() {
            NODE.iter().try_for_each(|family| family.encode_nodes(out, nodes))?;
        }
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("role", self.role)];
        out.encode_descriptor("dproxy_build_info", "What runs here; always 1", None, MetricType::Gauge)?
            .encode_family(&labels)?
            .encode_gauge(&1_u64)?;
        self.process.encode(out)
    }
}

impl Snapshot {
    /// Of a proxy: what its origin is, and how requests to it failed.
    fn encode_origin(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(kind) = self.metrics["source"].as_str() {
            let help = "What documents are fetched from; always 1";
            out.encode_descriptor("dproxy_origin_info", help, None, MetricType::Gauge)?
                .encode_family(&[("kind", kind)])?
                .encode_gauge(&1_u64)?;
        }
        let (name, help) =
            ("dproxy_origin_failures_by_kind", "Requests to the origin that failed, by the way");
        self.encode_by(out, "origin_failures_by", "kind", name, help)
    }

    /// The first and the last second of each certificate in use.
    fn encode_certificates(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(certificates) = self.metrics["certificates"].as_object() else { return Ok(()) };
        for (member, name, help) in [
            (
                "not_before",
                "dproxy_certificate_not_before_timestamp",
                "From when on the certificate in use is valid, since 1970",
            ),
            (
                "not_after",
                "dproxy_certificate_not_after_timestamp",
                "Until when the certificate in use is valid, since 1970",
            ),
        ] {
            let mut metric = out.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
            for (used_by, times) in certificates {
                let time = times[member].as_str().and_then(|time| humantime::parse_rfc3339(time).ok());
                if let Some(since_1970) = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) {
                    metric.encode_family(&[("of", used_by.as_str())])?.encode_gauge(&since_1970.as_secs())?;
                }
            }
        }
        Ok(())
    }

    /// Counters of an object in METRICS, with the names of its members as a label.
    fn encode_by(
        &self,
        out: &mut DescriptorEncoder<'_>,
        member: &str,
        label: &str,
        name: &str,
        help: &str,
    ) -> fmt::Result {
        let Some(counts) = self.metrics[member].as_object() else { return Ok(()) };
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in counts {
            let count = count.as_u64().unwrap_or_default();
            metric
                .encode_family(&[(label, value.as_str())])?
                .encode_counter::<NoLabels, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

type NoLabels = [(&'static str, &'static str); 0];

impl Process {
    fn encode(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = self.cpu {
            let help = "Time of all processors that this process took";
            out.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabels, _, f64>(&seconds, None)?;
        }
        if let Some(seconds) = self.start {
            let help = "When this process started, since 1970";
            out.encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?
                .encode_gauge(&seconds)?;
        }
        let bytes = Some(&Unit::Bytes);
        for (name, help, unit, value) in [
            ("process_open_fds", "Files and sockets that are open", None, self.open_fds),
            ("process_max_fds", "The limit of open files and sockets", None, self.max_fds),
            ("process_resident_memory", "Memory of this process that is resident", bytes, self.resident),
            ("process_virtual_memory", "Address space of this process", bytes, self.virtual_memory),
        ] {
            if let Some(value) = value {
                gauge(out, name, help, unit, &value)?;
            }
        }
        Ok(())
    }
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: &u64,
) -> fmt::Result {
    out.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(value)
}

impl Family {
    fn kind(&self) -> MetricType {
        if self.is_counter { MetricType::Counter } else { MetricType::Gauge }
    }

    fn encode_value(&self, metric: &mut MetricEncoder<'_>, value: f64) -> fmt::Result {
        match self.is_counter {
            true => metric.encode_counter::<NoLabels, _, f64>(&value, None),
            false => metric.encode_gauge(&value),
        }
    }

    fn encode_one(&self, out: &mut DescriptorEncoder<'_>, value: f64) -> fmt::Result {
        let mut metric = out.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.kind())?;
        self.encode_value(&mut metric, value)
    }

    /// One sample for each node, with its name as the label `node`.
    fn encode_nodes(&self, out: &mut DescriptorEncoder<'_>, nodes: &Map<String, Value>) -> fmt::Result {
        let values = nodes.iter().filter_map(|(name, node)| Some((name.as_str(), self.value(node)?)));
        let mut values = values.peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut metric = out.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.kind())?;
        for (name, value) in values {
            self.encode_value(&mut metric.encode_family(&[("node", name)])?, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_format_is_negotiated_by_weight() {
        for (lines, expected) in [
            (
                &["application/openmetrics-text;version=1.0.0;q=0.5, text/plain;q=0.3,*/*;q=0.2"][..],
                Format::OpenMetrics,
            ),
            (&["text/plain;q=0.3", "application/openmetrics-text;q=0.5"], Format::OpenMetrics),
            (&["application/openmetrics-text;q=0.1, text/plain"], Format::Prometheus),
            (&["application/openmetrics-text;q=0"], Format::Prometheus),
            (&["text/html, */*;q=0.8"], Format::Prometheus),
            (&[], Format::Prometheus),
        ] {
            let mut all = HeaderMap::new();
            for line in lines {
                all.append(ACCEPT, HeaderValue::from_static(line));
            }
            assert_eq!(Format::negotiate(&all), expected, "{all:?}");
        }
    }
}
