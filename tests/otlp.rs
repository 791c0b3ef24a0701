//! Spans over OTLP (the Cargo feature `otlp`): one trace through all nodes, decoded with the official Python messages.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::collector::{CLIENT, Collector, INTERNAL, SERVER, exporter};
use crate::support::command::{clean, run_to_end, text};
use crate::support::http::fetch_with;
use crate::support::{Data, Node, Session, Start, get, status_of, timed, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ASKER: &str = "00f067aa0ba902b7";

/// A node that sends its spans in short intervals, with these variables.
fn exporting(binary: &str, start: Start, variables: &str) -> Start {
    start.binary(binary).shell(&format!("export OTEL_BSP_SCHEDULE_DELAY=20 {variables}"), "")
}

struct House {
    collector: Collector,
    _data: Data,
    origin: Node,
    proxy: Node,
    balancer: Node,
}

/// A cluster whose nodes send their spans to one collector; `None` without a collector.
fn house(variables: &str) -> Option<House> {
    let (binary, collector) = (exporter()?, Collector::start()?);
    let data = Data::articles(3);
    let flags = format!("--otlp-endpoint {}", collector.url());
    let origin = exporting(&binary, Start::origin(data.path(), &flags), variables).run();
    let proxy = exporting(&binary, Start::proxy(origin.address, &flags), variables).run();
    let words = format!("--http-port 0 {flags}");
    let balancer = exporting(&binary, Start::balancer(&[proxy.address], &words), variables).run();
    Some(House { collector, _data: data, origin, proxy, balancer })
}

fn is(span: &Value, service: &str, kind: u64) -> bool {
    span["service"] == service && span["kind"] == kind
}

#[test]
fn a_get_over_http_is_one_trace_through_all_nodes() {
    let Some(mut house) = house("") else { return };
    let http = house.balancer.serves_http();
    let parent = format!("traceparent: 00-{TRACE}-{ASKER}-01");
    assert_eq!(fetch_with(http, "/article/1", &[&parent]).code, 200);
    let of = |what: &str, service: &str, kind: u64, beneath: &Value| {
        let is_it =
            |span: &Value| is(span, service, kind) && span["parent"] == *beneath && span["trace"] == TRACE;
        house.collector.span(what, is_it)
    };
    let at_balancer = of("the balancer's span", "dproxy-lb", SERVER, &json!(ASKER));
    let to_proxy = of("what it asked", "dproxy-lb", CLIENT, &at_balancer["span"]);
    let at_proxy = of("the proxy's span", "dproxy-proxy", SERVER, &to_proxy["span"]);
    let waited = of("what it waited for", "dproxy-proxy", INTERNAL, &at_proxy["span"]);
    let to_origin = of("what it asked", "dproxy-proxy", CLIENT, &at_proxy["span"]);
    let at_origin = of("the origin's span", "dproxy-origin", SERVER, &to_origin["span"]);

    for served in [&at_balancer, &at_proxy] {
        let attributes = json!({
            "dproxy.key": "article/1", "dproxy.status": "OK", "dproxy.cache_hit": false, "dproxy.node": house.proxy.port(),
        });
        assert_eq!((&served["name"], &served["attributes"]), (&json!("GET"), &attributes));
    }
    assert_eq!(at_origin["attributes"], json!({ "dproxy.key": "article/1", "dproxy.status": "OK" }));
    let peer = |node: &Node| json!({ "server.address": "127.0.0.1", "server.port": node.port() });
    assert_eq!((&to_proxy["name"], &to_proxy["attributes"]), (&json!("ask"), &peer(&house.proxy)));
    assert_eq!(to_origin["attributes"], peer(&house.origin));
    assert_eq!(waited["name"], "the fetch");
    let nanos = |span: &Value| span["nanos"].as_u64().expect("nanoseconds");
    assert!(nanos(&at_balancer) > nanos(&at_origin), "{at_balancer} {at_origin}");

    // A hit ends at the proxy. Its span has a parent, and so has that one.
    assert_eq!(fetch_with(http, "/article/1", &[&parent]).code, 200);
    let hit = house.collector.span("the hit", |span| span["attributes"]["dproxy.cache_hit"] == true);
    assert_eq!(hit["trace"], TRACE);
}

#[test]
fn an_unsampled_trace_is_not_recorded() {
    let Some(mut house) = house("") else { return };
    let http = house.balancer.serves_http();
    let ask = |path: &str, flags: &str| {
        fetch_with(http, path, &[&format!("traceparent: 00-{TRACE}-{ASKER}-{flags}")])
    };
    assert_eq!(ask("/article/1", "00").code, 200);
    assert_eq!(ask("/article/2", "01").code, 200);
    house.collector.span("the origin's span", |span| is(span, "dproxy-origin", SERVER));
    house.collector.span("the balancer's span", |span| is(span, "dproxy-lb", SERVER));
    let keys: Vec<_> =
        house.collector.spans().iter().map(|span| span["attributes"]["dproxy.key"].clone()).collect();
    assert!(!keys.contains(&json!("article/1")) && keys.contains(&json!("article/2")), "{keys:?}");
}

#[test]
fn a_request_without_a_trace_is_sampled_once_for_all_nodes() {
    // Requests without a sampled parent are not recorded, whichever node they enter.
    let Some(house) = house("OTEL_TRACES_SAMPLER=parentbased_always_off") else { return };
    assert_eq!(get(house.balancer.address, "article/1")["status"], "OK");
    let mut session = Session::open(house.balancer.address);
    let sampled = format!("GET article/2 trace=mine traceparent=00-{TRACE}-{ASKER}-01");
    assert_eq!(status_of(&session.ask(1, &sampled)), "OK");
    house.collector.span("the origin's span", |span| is(span, "dproxy-origin", SERVER));
    house.collector.span("the balancer's span", |span| is(span, "dproxy-lb", SERVER));
    assert!(house.collector.spans().iter().all(|span| span["trace"] == TRACE));
}

#[test]
fn a_stop_sends_the_spans_that_wait() {
    let (Some(binary), Some(collector)) = (exporter(), Collector::start()) else { return };
    let data = Data::articles(1);
    // An hour between two batches; a standard variable of OpenTelemetry.
    let variables = format!(
        "OTEL_BSP_SCHEDULE_DELAY=3600000 OTEL_SERVICE_NAME=mine OTEL_EXPORTER_OTLP_ENDPOINT={}",
        collector.url()
    );
    let mut origin = exporting(&binary, Start::origin(data.path(), ""), &variables).run();
    assert_eq!(get(origin.address, "article/1")["status"], "OK");
    assert_eq!(get(origin.address, "article/none")["status"], "NOT_FOUND");
    origin.signal("TERM");
    assert!(origin.ended().success());
    let missing = collector.span("its span", |span| span["attributes"]["dproxy.status"] == "NOT_FOUND");
    assert_eq!((&missing["service"], &missing["parent"]), (&json!("mine"), &json!("")));
    assert_eq!(missing["status"], 0, "NOT_FOUND is no failure");
    assert_eq!(collector.spans().len(), 2);
}

#[test]
fn an_unreachable_collector_costs_only_spans_and_one_log_line() {
    let Some(binary) = exporter() else { return };
    // No process listens on this port any more.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let data = Data::articles(1);
    let start = Start::origin(data.path(), &format!("--otlp-endpoint http://{gone}"));
    let origin = exporting(&binary, start, "OTEL_BSP_MAX_QUEUE_SIZE=1").run();
    let lost = || origin.log().matches("spans are lost").count();
    until("the loss is logged", || {
        assert_eq!(get(origin.address, "article/1")["status"], "OK");
        lost() > 0
    });
    for _ in 0..200 {
        assert_eq!(get(origin.address, "article/1")["status"], "OK");
    }
    assert_eq!(lost(), 1, "{}", origin.log());
}

#[test]
fn a_collector_that_hangs_delays_nothing() {
    let Some(binary) = exporter() else { return };
    // It accepts connections and never replies.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address");
    let data = Data::articles(1);
    let start = Start::origin(data.path(), &format!("--drain 300ms --otlp-endpoint http://{address}"));
    let mut origin = exporting(&binary, start, "OTEL_EXPORTER_OTLP_TIMEOUT=3600000").run();
    let mut session = Session::open(origin.address);
    let mut ask = |many: u64| {
        for from in (0..many).step_by(500) {
            let requests = (from..from + 500).map(|id| format!("{id} GET article/1\n"));
            session.send(&requests.collect::<String>());
            let replies = session.replies_to(from..from + 500);
            assert!(replies.values().all(|reply| status_of(reply) == "OK"), "requests go on");
        }
    };
    // More than the queue of spans holds; further spans are dropped.
    ask(5_000);
    let full = origin.resident_mib();
    ask(100_000);
    let grown = origin.resident_mib().saturating_sub(full);
    assert!(grown < 8, "{grown} MiB more for spans that nobody takes");
    origin.signal("TERM");
    let (took, status) = timed(|| origin.ended());
    assert!(status.success() && took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn an_unsupported_endpoint_is_refused_at_the_start() {
    let Some(binary) = exporter() else { return };
    for endpoint in ["https://collector:4318", "collector:4318", "http://", "::"] {
        let mut command = clean(&binary);
        command.args(["origin", "--port", "0", "--data", "/", "--otlp-endpoint", endpoint]);
        let refused = run_to_end(command, b"");
        assert!(!refused.status.success() && text(&refused.stderr).contains("OTLP"), "{endpoint}");
    }
    let data = Data::articles(1);
    let start = Start::origin(data.path(), "--otlp-endpoint http://127.0.0.1:1");
    let mut refused = exporting(&binary, start, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc").spawn();
    assert!(!refused.ended().success() && refused.log().contains("http/protobuf"), "{}", refused.log());
}
