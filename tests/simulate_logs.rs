//! `dproxy simulate` of access logs: recognised, counted, with their times and sizes.

use std::process::Output;

use serde_json::Value;

use crate::simulate::{file, simulate};
use crate::support::ask::parse;
use crate::support::command::{BINARY, clean, dproxy, run_to_end, text};

/// A line of nginx's combined log at a second of a day: a document of 1000 bytes, unless `rest` says otherwise.
fn nginx(second: u64, request: &str, rest: &str) -> String {
    let (hours, minutes, seconds) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "192.0.2.7 - - [30/Nov/2026:{hours:02}:{minutes:02}:{seconds:02} +0000] \"{request} HTTP/1.1\" {rest} \"-\" \"curl/8.5\"\n"
    )
}

/// A log of one document a second, each of 100 documents in turn, for 1000 seconds.
fn rounds() -> String {
    (0..1000)
        .map(|second| nginx(second, &format!("GET /article/{}?n={second}", second % 100), "200 1000"))
        .collect()
}

fn figures(runs: &[Value]) -> Vec<(u64, u64)> {
    let number = |run: &Value, name: &str| run[name].as_u64().expect("a number");
    runs.iter().map(|run| (number(run, "requests"), number(run, "misses"))).collect()
}

/// `dproxy simulate` of bytes on standard input.
fn piped(bytes: &[u8], words: &str) -> Output {
    let mut command = clean(BINARY);
    command.args(["simulate", "--trace", "-"]).args(words.split_whitespace());
    run_to_end(command, bytes)
}

#[test]
fn a_whole_nginx_log_is_no_list_of_keys_that_all_miss() {
    let log = [
        rounds(),
        nginx(0, "POST /article/1", "200 5"),
        nginx(0, "HEAD /article/1", "304 0"),
        nginx(0, "GET /none", "404 5"),
        "cut of\n".to_owned(),
    ]
    .concat();
    let (_dir, path) = file(log.as_bytes());
    let runs = simulate(&path, "--cache-type lru --capacity 100%,200");
    assert_eq!(figures(&runs), [(1001, 100), (1001, 100)]);
    assert_eq!((&runs[0]["capacity"], &runs[0]["trace_format"]), (&100.into(), &"combined".into()));
    let left_out = serde_json::json!({"method": 1, "status": 1, "path": 0, "other": 1});
    assert_eq!(runs[0]["left_out"], left_out);

    let output = dproxy(&["simulate", "--trace", path.to_str().expect("a path"), "--capacity", "200"]);
    let told = text(&output.stderr);
    assert_eq!((output.status.code(), told.lines().count()), (Some(0), 1), "{told}");
    assert!(told.contains("a combined log") && told.contains("1001 requests count"), "{told}");
    assert!(
        told.contains("left out are 3 (1 neither GET nor HEAD, 1 neither 200 nor 304, 1 no request)"),
        "{told}"
    );
}

#[test]
fn every_format_gives_the_figures_of_its_keys() {
    let of_each = |line: &dyn Fn(u64) -> String| (0..300).map(|n| line(n % 100)).collect::<String>();
    let head = "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status\n";
    let edge =
        |n| format!("2026-11-30\t13:50:15\tFRA56-P4\t812\t192.0.2.7\tGET\td1.example\t/article/{n}\t200\n");
    let varnish = |n| nginx(1, &format!("GET http://shop.example/article/{n}"), "200 512");
    let caddy = |n| {
        format!(
            "{{\"level\":\"info\",\"ts\":1796046615.25,\"msg\":\"handled request\",\"request\":{{\"method\":\"GET\",\"host\":\"shop.example\",\"uri\":\"/article/{n}\"}},\"duration\":0.001,\"size\":512,\"status\":200}}\n"
        )
    };
    let envoy = |n| {
        format!(
            "{{\"start_time\":\"2026-11-30T13:50:15.250Z\",\"method\":\"GET\",\"path\":\"/article/{n}\",\"response_code\":200,\"bytes_sent\":512}}\n"
        )
    };
    for (name, log) in [
        ("combined", of_each(&varnish)),
        ("cloudfront", head.to_owned() + &of_each(&edge)),
        ("caddy", "{\"level\":\"info\",\"msg\":\"serving\"}\n".to_owned() + &of_each(&caddy)),
        ("envoy", of_each(&envoy)),
    ] {
        let (_dir, path) = file(log.as_bytes());
        for given in ["", &format!(" --trace-format {name}")] {
            let runs = simulate(&path, &format!("--cache-type lru --capacity 100 --ttl 1h{given}"));
            assert_eq!(
                (figures(&runs), &runs[0]["trace_format"]),
                (vec![(300, 100)], &name.into()),
                "{name}"
            );
        }
    }
}

#[test]
fn a_line_that_is_no_key_is_refused_with_its_number() {
    for (trace, line, what) in [
        ("article/1\n\ntwo words\n".to_owned(), 3, "several words"),
        ("article/1\n".to_owned() + &nginx(0, "GET /a", "200 5"), 2, "a line of a combined log"),
        ("{\"key\":\"article/1\"}\n".to_owned(), 1, "a JSON object"),
    ] {
        let output = piped(trace.as_bytes(), "--capacity 100");
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
        assert!(output.stdout.is_empty(), "no figures: {}", text(&output.stdout));
        assert!(told.contains(&format!("line {line} of -")) && told.contains(what), "{told}");
    }
    let output = piped(rounds().as_bytes(), "--capacity 100 --trace-format envoy");
    let told = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && told.contains("most lines of -, 1000 from line 1 on"),
        "{told}"
    );
}

#[test]
fn documents_expire_by_the_times_of_the_log() {
    let (_dir, path) = file(rounds().as_bytes());
    // Each document is asked for every 100 seconds.
    for (ttl, misses) in [("100s", 1000), ("101s", 500), ("201s", 400), ("1h", 100)] {
        let runs = simulate(&path, &format!("--capacity 100 --ttl {ttl}"));
        assert_eq!(figures(&runs), [(1000, misses); 3], "{ttl}: {}", runs[0]);
    }
    let output = piped(b"article/1\n", "--capacity 100 --ttl 30s");
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("line 1 of - has no time"), "{told}");
}

#[test]
fn bytes_are_bounded_by_the_sizes_of_the_log() {
    let (_dir, path) = file(rounds().as_bytes());
    let runs = simulate(&path, "--cache-type lru --max-bytes 64KiB,1MiB");
    assert_eq!(figures(&runs), [(1000, 1000), (1000, 100)], "a document takes more than 1000 bytes");
    assert_eq!((&runs[0]["capacity"], &runs[1]["max_bytes"]), (&Value::Null, &(1 << 20).into()));
    let enough = runs[0]["enough_bytes"].as_u64().expect("bytes");
    assert!((100_000..300_000).contains(&enough), "of 100 documents of 1000 bytes: {enough}");
    let output = dproxy(&["simulate", "--trace", path.to_str().expect("a path"), "--max-bytes", "1MiB"]);
    let told = text(&output.stderr);
    assert!(told.lines().any(|line| line.contains("95 % of the hits of an endless cache: 1")), "{told}");
    // The limit that is reached first counts.
    let runs = simulate(&path, "--cache-type lru --max-bytes 64KiB,1MiB --capacity 50,100");
    assert_eq!(figures(&runs), [1000, 1000, 1000, 100].map(|misses| (1000, misses)));
    let output = piped(b"article/1\n", "--max-bytes 1MiB");
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("line 1 of - has no size"), "{told}");
}

#[test]
fn a_pipe_is_read_once_where_once_is_enough() {
    let trace = rounds();
    let output = piped(trace.as_bytes(), "--output json --capacity 50,100");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let runs: Vec<Value> = text(&output.stdout).lines().map(parse).collect();
    let (_dir, path) = file(trace.as_bytes());
    assert_eq!(figures(&runs), figures(&simulate(&path, "--capacity 50,100")));
    let output = piped(trace.as_bytes(), "--capacity 5%");
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("give --capacity in entries"), "{told}");
}
