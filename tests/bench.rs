//! `dproxy bench`: its counts are true, whatever the node does.

use std::process::{Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::http::house;
use crate::support::ask::parse;
use crate::support::command::{BINARY, clean, dproxy, run_to_end, signal, text};
use crate::support::fake::{Fault, Gate, Hello, answer_soundly};
use crate::support::{Address, Data, Fake, Node, Start, at_once, heavy, pause, until};

/// Runs `dproxy bench` on a node.
fn bench(node: Address, words: &str) -> Output {
    let (host, port) = (node.host(), node.port().to_string());
    let mut all = vec!["bench", "--host", &host, "--port", &port];
    all.extend(words.split_whitespace());
    dproxy(&all)
}

/// Runs it for its JSON result and its exit code.
fn measured(node: Address, words: &str) -> (Value, i32) {
    let output = bench(node, &format!("{words} --output json"));
    let printed = text(&output.stdout);
    let line = printed.strip_suffix('\n').filter(|line| !line.contains('\n'));
    let line = line.unwrap_or_else(|| panic!("not one line: {printed:?} {}", text(&output.stderr)));
    (parse(line), output.status.code().expect("an exit code"))
}

fn count(result: &Value, name: &str) -> u64 {
    result[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {result}"))
}

fn origin_and_proxy(articles: u32) -> (Data, Node, Node) {
    let data = Data::articles(articles);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    (data, origin, proxy)
}

#[test]
fn its_counts_are_those_of_the_proxy() {
    let data = Data::articles(50);
    let origin = Start::origin(data.path(), "").run();
    let mut proxy = Start::proxy(origin.address, "--http-port 0").run();
    let (lines, http) = (proxy.address, proxy.serves_http());
    for (at, asked, mode) in [
        (lines, "", "session"),
        (lines, "--plain", "plain"),
        (http, "--http", "http"),
        (http, "--http --plain", "http-plain"),
        (lines, "--threads 2", "session"),
        (lines, "--rate 5000", "session"),
    ] {
        let before = proxy.metrics();
        let words = format!("--requests 503 --connections 8 --in-flight 4 --key-range article/1..50 {asked}");
        let (result, code) = measured(at, &words);
        let after = proxy.metrics();
        let more =
            |name: &str| after[name].as_u64().expect("a count") - before[name].as_u64().expect("a count");
        assert_eq!(
            (count(&result, "requests"), count(&result, "errors"), code),
            (503, 0, 0),
            "{asked}: {result}"
        );
        assert_eq!(more("total_requests"), 503, "{asked}");
        assert_eq!((&result["by_status"], &result["mode"]), (&serde_json::json!({"OK": 503}), &mode.into()));
        let hit_ratio = result["hit_ratio"].as_f64().expect("a ratio");
        assert!((hit_ratio - more("hits") as f64 / 503.0).abs() < 1e-9, "{asked}: {result}");
        let latency =
            ["p50", "p90", "p99", "p999", "max"].map(|name| result["latency_ms"][name].as_f64().expect(name));
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{asked}: {result}");
        assert!(
            result["rps"].as_f64().expect("rps") > 0.0 && result["seconds"].as_f64().expect("seconds") > 0.0
        );
    }
}

#[test]
fn a_run_by_time_does_not_count_its_warm_up() {
    let (_data, _origin, proxy) = origin_and_proxy(12);
    let (result, code) = measured(proxy.address, "--duration 1s --warmup 1s --connections 4");
    let (requests, all) = (count(&result, "requests"), proxy.count("total_requests") as u64);
    assert_eq!((code, &result["seconds"]), (0, &1.0.into()));
    assert!(requests > 0 && requests < all, "{requests} of {all}");
}

#[test]
fn it_opens_one_connection_per_session_or_plain_request() {
    let sessions = Fake::start(Hello::Granted, answer_soundly);
    let (result, code) = measured(sessions.address, "--requests 60 --connections 6 --in-flight 2");
    // One more connection checks the node first.
    assert_eq!((count(&result, "requests"), code, sessions.connections()), (60, 0, 7));
    assert_eq!(result["hit_ratio"], Value::Null, "an origin has no cache");
    let plain = Fake::origin();
    let (result, code) = measured(plain.address, "--requests 60 --connections 6 --plain");
    assert_eq!((count(&result, "requests"), code, plain.connections()), (60, 0, 61));
}

#[test]
fn keys_come_in_order_or_by_a_seed() {
    let asked = |words: &str, input: &str| {
        let fake = Fake::start(Hello::Granted, answer_soundly);
        let mut command = clean(BINARY);
        command.args([
            "bench",
            "--port",
            &fake.address.port().to_string(),
            "--connections",
            "1",
            "--in-flight",
            "1",
        ]);
        let output = run_to_end(
            {
                command.args(words.split_whitespace());
                command
            },
            input.as_bytes(),
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
        fake.requests().join(",")
    };
    assert_eq!(asked("--requests 4 --keys -", "b/2\n\n a/1 \nc/3\n"), "GET b/2,GET a/1,GET c/3,GET b/2");
    assert_eq!(asked("--requests 4 --key-range x/y/9..11", ""), "GET x/y/9,GET x/y/10,GET x/y/11,GET x/y/9");
    let zipf = |seed: u32| asked(&format!("--requests 40 --key-range a/1..1000 --zipf 1 --seed {seed}"), "");
    let first = zipf(1);
    assert_eq!(first, zipf(1));
    assert_ne!(first, zipf(2));
}

#[test]
fn other_statuses_are_counted_by_name() {
    let (_data, _origin, proxy) = origin_and_proxy(5);
    let (result, code) = measured(proxy.address, "--requests 20 --key-range article/1..10");
    assert_eq!((count(&result, "errors"), code), (10, 1));
    assert_eq!(result["by_status"], serde_json::json!({"OK": 10, "NOT_FOUND": 10}));
    let table = text(&bench(proxy.address, "--requests 20 --key-range article/1..10").stdout);
    for part in ["errors", "10  NOT_FOUND", "p99.9", "cache hits"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    assert!(!table.contains('\u{1b}'), "no colours in a pipe: {table:?}");
}

#[test]
fn every_fault_of_a_node_counts_as_an_error() {
    let _alone = heavy();
    let faults: Vec<(Fault, bool)> =
        Fault::ALL.into_iter().flat_map(|fault| [(fault, false), (fault, true)]).collect();
    at_once(faults, |(fault, plain)| {
        let fake = Fake::start(Hello::Granted, move |asked| fault.strike(asked));
        let mode = if plain { "--plain" } else { "--in-flight 1" };
        let words = format!("--requests 2 --connections 1 --timeout 3s {mode}");
        let (result, code) = measured(fake.address, &words);
        assert_eq!(
            (count(&result, "requests"), count(&result, "errors"), code),
            (2, 2, 3),
            "{fault:?}: {result}"
        );
        assert_eq!(result["latency_ms"], Value::Null, "{fault:?}");
    });
}

#[test]
fn duplicate_and_unknown_ids_are_errors() {
    let ok = r#"{"status":"OK","data":1}"#;
    let wrong = Fake::start(Hello::Granted, move |asked| {
        asked.raw(
            format!(
                "99999999 {ok}
"
            )
            .as_bytes(),
        );
    });
    let (result, code) = measured(wrong.address, "--requests 2 --connections 1 --in-flight 1");
    assert_eq!((&result["failures"], code), (&serde_json::json!({"bad_reply": 2}), 3));
    let twice = Fake::start(Hello::Granted, move |asked| {
        asked.reply(ok);
        asked.reply(ok);
    });
    let (result, code) = measured(twice.address, "--requests 20 --connections 1 --in-flight 2");
    assert!(count(&result["failures"], "bad_reply") > 0 && code == 1, "{result}");
    assert_eq!(count(&result, "requests"), 20);
}

#[test]
fn a_stall_delays_every_request_that_was_due_in_it() {
    let gate = Gate::default();
    let node = gate.peer();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            until("the first request is there", || !node.requests().is_empty());
            pause(Duration::from_millis(600));
            gate.open();
        });
        // Two in flight only: a closed loop would see a stall in two requests.
        let words = "--rate 200 --duration 1s --warmup 0 --connections 2 --in-flight 1 --timeout 20s";
        measured(node.address, words).0
    });
    assert_eq!((count(&result, "requests"), count(&result, "errors")), (200, 0), "{result}");
    let latency = |name: &str| result["latency_ms"][name].as_f64().expect(name);
    assert!(latency("max") >= 500.0 && latency("p90") >= 200.0, "{result}");
}

#[test]
fn an_open_loop_gives_up_late_requests() {
    let node = Gate::default().peer();
    let words = "--rate 100 --duration 1s --warmup 0 --connections 2 --in-flight 1 --timeout 300ms";
    let (result, code) = measured(node.address, words);
    assert_eq!((count(&result, "requests"), count(&result, "errors"), code), (100, 100, 3), "{result}");
    assert!(count(&result["failures"], "not_sent") > 0, "{result}");
}

#[test]
fn a_node_that_dies_costs_errors_and_no_hang() {
    let (data, origin, _) = origin_and_proxy(12);
    let proxy = Start::proxy(origin.address, "").run();
    let address = proxy.address;
    let result = thread::scope(|scope| {
        let run =
            scope.spawn(move || measured(address, "--duration 3s --warmup 0 --connections 4 --timeout 1s"));
        until("requests arrive", || proxy.count("total_requests") > 0.0);
        proxy.kill();
        run.join().expect("a result")
    });
    let ((result, code), _data) = (result, data);
    assert!(count(&result, "errors") > 0 && code == 1, "{result}");
    assert!(count(&result["failures"], "refused") > 0, "{result}");
}

#[test]
fn an_interrupt_prints_the_result_so_far() {
    for name in ["INT", "TERM"] {
        let (_data, _origin, proxy) = origin_and_proxy(12);
        let mut command = clean(BINARY);
        command.args(["bench", "--port", &proxy.port().to_string(), "--duration", "10m", "--warmup", "0"]);
        command
            .args(["--output", "json", "--connections", "4"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().expect("a run");
        until("requests arrive", || proxy.count("total_requests") > 100.0);
        signal(child.id(), name);
        let output = child.wait_with_output().expect("its output");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let result = parse(text(&output.stdout).trim_end());
        assert!(
            count(&result, "requests") > 0 && result["seconds"].as_f64().expect("seconds") < 60.0,
            "{result}"
        );
    }
}

#[test]
fn an_interrupt_during_the_warm_up_is_reported() {
    let (_data, _origin, proxy) = origin_and_proxy(12);
    let mut command = clean(BINARY);
    command.args(["bench", "--port", &proxy.port().to_string(), "--warmup", "10m"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a run");
    until("requests arrive", || proxy.count("total_requests") > 0.0);
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("its output");
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).contains("during the warm-up"), "{}", text(&output.stderr));
}

#[test]
fn in_flight_is_reported_as_limited_by_the_node() {
    let (_data, _origin, proxy) = origin_and_proxy(12);
    let (result, _) = measured(proxy.address, "--requests 60 --connections 2 --in-flight 5000");
    assert_eq!(count(&result, "in_flight"), 1024, "{result}");
}

#[test]
fn wrong_usage_is_reported_before_the_run() {
    let nobody = Address::loopback(1);
    let refused = bench(nobody, "--requests 1");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0));
    assert!(text(&refused.stderr).contains("127.0.0.1:1"), "{}", text(&refused.stderr));
    let plain = Fake::origin();
    let output = bench(plain.address, "--requests 1");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--plain"), "{}", text(&output.stderr));
    for words in
        ["--rate 0", "--key-range a/5..1", "--requests 0", "--keys x --key-range a/1..2", "--zipf -1"]
    {
        assert_eq!(bench(nobody, words).status.code(), Some(2), "{words}");
    }
    let output = bench(plain.address, "--plain --keys /dev/null");
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("/dev/null"));
}

#[test]
fn a_port_of_http_is_told_and_not_measured_in_vain() {
    let house = house("");
    let right = format!("lines are served on port {}", house.proxy.port());
    for words in ["", "--plain --duration 50ms --warmup 0s"] {
        let output = bench(house.http, words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&right) && !said.contains("--plain"), "{said}");
    }
}

#[test]
fn a_rate_beyond_what_is_possible_ends_with_its_window() {
    let origin = Fake::origin();
    let begun = tokio::time::Instant::now();
    let (result, code) = measured(
        origin.address,
        "--plain --rate 1500000 --duration 1s --warmup 0s --connections 2 --timeout 60s",
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(result["behind_seconds"].as_f64().expect("a number") > 0.1, "{result}");
    assert!(code == 1 && result["failures"]["not_sent"].as_u64().expect("a count") > 0, "{result}");
}

#[test]
fn over_http_every_other_status_is_an_error_and_lines_are_no_response() {
    let data = Data::articles(1);
    let mut origin = Start::origin(data.path(), "--http-port 0 --max-document 40").run();
    data.put("article/2", &[b'1'; 64]);
    let http = origin.serves_http();
    let run =
        |to, words: &str| measured(to, &format!("{words} --http --requests 4 --connections 2 --timeout 2s"));
    let (result, code) = run(http, "--key-range article/1..4");
    let told = (&result["by_status"]["OK"], &result["by_status"]["NOT_FOUND"], &result["failures"], code);
    assert_eq!(told, (&1.into(), &2.into(), &serde_json::json!({"status": 1}), 1), "{result}");
    let (result, code) = run(origin.address, "");
    assert_eq!((count(&result, "errors"), code), (4, 3), "{result}");
}
