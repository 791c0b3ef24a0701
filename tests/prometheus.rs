//! `/metrics` with Prometheus itself: its linter, its scraper, and the rules and the dashboard of `examples`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::authority::{Authority, IN_TIME};
use crate::support::command::{Background, has_command, run_to_end, text};
use crate::support::http::{Http, fetch, fetch_with};
use crate::support::{Address, Data, Node, Start, TempDir, until};

struct House {
    _data: Data,
    _nodes: Vec<Node>,
    proxy: Address,
    balancer: Address,
    second: Address,
}

/// A proxy and a balancer that have answered a few requests, and a second balancer of the same proxy.
fn house() -> House {
    let data = Data::articles(3);
    let origin = Start::origin(data.path(), "").run();
    let mut proxy = Start::proxy(origin.address, "--http-port 0 --capacity 100").run();
    let [mut balancer, mut second] =
        [(); 2].map(|()| Start::balancer(&[proxy.address], "--http-port 0 --health-interval 100ms").run());
    let [at_proxy, at_balancer, at_second] =
        [&mut proxy, &mut balancer, &mut second].map(|node| node.serves_http());
    for target in ["/article/1", "/article/1", "/article/none", "/article/2"] {
        fetch(at_balancer, target);
    }
    until("the proxy is polled", || {
        let is_polled = |at| fetch(at, "/metrics").text().contains("dproxy_node_cache_hits_total");
        is_polled(at_balancer) && is_polled(at_second)
    });
    let nodes = vec![origin, proxy, balancer, second];
    House { _data: data, _nodes: nodes, proxy: at_proxy, balancer: at_balancer, second: at_second }
}

/// The names of the samples in a text.
fn names(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned())).collect()
}

#[test]
fn promtool_finds_no_fault() {
    if !has_command("promtool", "prometheus") {
        return;
    }
    let house = house();
    for node in [house.proxy, house.balancer] {
        let metrics = fetch(node, "/metrics");
        assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]);
        let said = run_to_end(promtool, &metrics.body);
        assert!(said.status.success(), "{}", text(&said.stderr));
        assert_eq!(text(&said.stdout) + &text(&said.stderr), "");
    }
}

#[test]
fn the_numbers_are_those_of_metrics() {
    let house = house();
    let value = |name: &str| {
        let metrics = fetch(house.proxy, "/metrics");
        let line = metrics
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name}"))
    };
    assert_eq!((value("dproxy_cache_hits_total"), value("dproxy_cache_misses_total")), (1.0, 3.0));
    assert_eq!(value("dproxy_requests_total{status=\"OK\"}"), 3.0);
    assert_eq!(value("dproxy_requests_total{status=\"NOT_FOUND\"}"), 1.0);
    assert_eq!(value("dproxy_request_duration_seconds_count"), 4.0);
    assert_eq!(value("dproxy_cache_entries"), 2.0);
    assert!(value("dproxy_cache_bytes") > 0.0);
    until("changes are followed", || value("dproxy_push_live") == 1.0);
    assert_eq!((value("dproxy_push_lapsed"), value("dproxy_push_changes_total")), (0.0, 0.0));
    let open = fetch_with(house.proxy, "/metrics", &["accept: application/openmetrics-text; version=1.0.0"]);
    assert!(open.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.text().ends_with("# EOF\n") && open.text().contains("# UNIT dproxy_cache_bytes bytes"));
}

/// A Prometheus that scrapes three nodes. It ends on drop.
struct Prometheus {
    _child: Background,
    directory: TempDir,
}

impl Prometheus {
    fn start(nodes: [Address; 3]) -> Self {
        let directory = TempDir::new();
        let path = |name: &str| directory.path().join(name);
        let targets = nodes.map(|node| format!("'{node}'")).join(", ");
        let rules = examples().join("prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nrule_files: ['{}']\n\
             scrape_configs:\n  - job_name: dproxy\n    static_configs: [{{targets: [{targets}]}}]\n",
            rules.display()
        );
        fs::write(path("prometheus.yml"), config).expect("a file");
        let log = fs::File::create(path("log")).expect("a file for the log");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg("--web.listen-address=127.0.0.1:0");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self { _child: Background(child.expect("prometheus starts")), directory }
    }

    /// Its address, from its log.
    fn address(&self) -> Address {
        crate::support::eventually("Prometheus listens", || {
            let log = fs::read_to_string(self.directory.path().join("log")).ok()?;
            let line = log.lines().find(|line| line.contains("Listening on"))?;
            let (_, rest) = line.split_once("address=")?;
            Some(Address(rest.split_whitespace().next()?.trim_matches('"').parse().ok()?))
        })
    }
}

#[test]
fn prometheus_scrapes_it() {
    if !has_command("prometheus", "prometheus") {
        return;
    }
    let house = house();
    let prometheus = Prometheus::start([house.proxy, house.balancer, house.second]);
    let at = prometheus.address();
    let query = |expression: &str| -> Vec<Value> {
        let answer =
            Http::connect(at).ask("GET", &format!("/api/v1/query?query={}", encoded(expression)), &[], "");
        // It may not be ready yet.
        if answer.code == 503 {
            return Vec::new();
        }
        let told = answer.json();
        assert_eq!(answer.code, 200, "{expression}: {told}");
        told["data"]["result"].as_array().cloned().expect("a result")
    };
    until("all are scraped", || query("up==1").len() == 3);
    until("requests are there", || !query("dproxy_requests_total").is_empty());
    let healthy = query("dproxy_node_healthy");
    assert_eq!(healthy[0]["value"][1], "1");
    let targets = Http::connect(at).ask("GET", "/api/v1/targets", &[], "").json();
    let targets = targets["data"]["activeTargets"].as_array().expect("targets");
    assert!(targets.iter().all(|target| target["lastError"] == ""), "{targets:?}");
    let rules = Http::connect(at).ask("GET", "/api/v1/rules", &[], "").json();
    assert!(!rules["data"]["groups"].as_array().expect("groups of rules").is_empty());
    the_dashboard_counts_each_proxy_once(&house, &query);
}

/// Text as it stands in the query of a URL.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Two balancers tell of one proxy: no line of a panel is drawn twice, and what is the proxy's own is as one of them tells it.
fn the_dashboard_counts_each_proxy_once(house: &House, query: &dyn Fn(&str) -> Vec<Value>) {
    let told = |expression: &str, balancers: &str| {
        query(&expression.replace("$instance", balancers).replace("$__rate_interval", "1m"))
    };
    let (both, one) = (format!("{}|{}", house.balancer, house.second), house.balancer.to_string());
    let mut of_proxies = 0;
    for target in targets() {
        let (expression, legend) = (&target["expr"], target["legendFormat"].as_str().expect("a legend"));
        let expression = expression.as_str().expect("an expression");
        told(expression, &both);
        // Numbers that stand still, in place of rates that are none.
        let still = expression.replace("rate(", "(").replace("[$__rate_interval]", "");
        if still.contains("_bucket") {
            continue;
        }
        let lines = told(&still, &both);
        let of = |line: &Value| {
            ["node", "status", "instance"].map(|label| match legend.contains(label) {
                true => line["metric"][label].to_string(),
                false => String::new(),
            })
        };
        let different: BTreeSet<[String; 3]> = lines.iter().map(of).collect();
        assert!(!lines.is_empty() && different.len() == lines.len(), "{expression}: {lines:?}");
        if ["node_cache", "node_origin", "node_healthy"].iter().any(|own| still.contains(own)) {
            let values =
                |lines: &[Value]| lines.iter().map(|line| line["value"][1].clone()).collect::<Vec<_>>();
            assert_eq!(values(&lines), values(&told(&still, &one)), "{expression}");
            of_proxies += 1;
        }
    }
    assert!(of_proxies > 5, "{of_proxies} expressions of what is a proxy's own");
    let of_clients = told("sum(dproxy_requests_total{instance=~\"$instance\"})", &both);
    assert_eq!(of_clients[0]["value"][1], "4", "without what the proxy counts of the same requests");
}

/// The queries of the dashboard.
fn targets() -> Vec<Value> {
    let text = fs::read_to_string(examples().join("grafana/dproxy.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default()).collect()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The names of metrics in a text of queries.
fn used(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("dproxy_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_existing_metrics() {
    let house = house();
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let mut secure = Start::proxy(house.proxy, &format!("--http-port 0 {}", authority.showing("node"))).run();
    let mut known = names(fetch(house.proxy, "/metrics").text());
    known.extend(names(fetch(house.balancer, "/metrics").text()));
    let shown = fetch(secure.serves_http(), "/metrics").text().to_owned();
    // 31 December 2099.
    assert!(
        shown.contains("dproxy_certificate_not_after_timestamp_seconds{of=\"peer\"} 4102358400"),
        "{shown}"
    );
    known.extend(names(&shown));
    let expressions = targets().iter().map(|target| format!("{}\n", target["expr"])).collect();
    let alerts = fs::read_to_string(examples().join("prometheus/alerts.yml")).expect("the alerts");
    for text in [expressions, alerts] {
        let used = used(&text);
        assert!(used.len() > 3, "the names were found");
        let missing: Vec<_> = used.difference(&known).collect();
        assert!(missing.is_empty(), "no node tells {missing:?}");
    }
    if has_command("promtool", "prometheus") {
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "rules", "--lint-fatal"]).arg(examples().join("prometheus/alerts.yml"));
        let said = run_to_end(promtool, b"");
        assert!(said.status.success(), "{}{}", text(&said.stdout), text(&said.stderr));
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "config"]).arg(examples().join("prometheus/prometheus.yml"));
        let said = run_to_end(promtool, b"");
        assert!(said.status.success(), "{}{}", text(&said.stdout), text(&said.stderr));
    }
}
