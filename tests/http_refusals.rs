//! What is refused over HTTP: always problem+json, always counted.

use std::process::Command;

use crate::http::house;
use crate::support::command::{has_command, run_to_end, text};
use crate::support::front::Front;
use crate::support::http::{Http, fetch, fetch_with};
use crate::support::temp::article;
use crate::support::{ask, exchange, until};

/// The number of refusals with this status, as Prometheus sees it.
fn counted(metrics: &str, status: &str) -> u64 {
    let sample = format!("dproxy_requests_total{{status=\"{status}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok()).unwrap_or(0)
}

/// Such a connection once kept its thread busy for ever.
#[test]
fn a_connection_that_ends_within_the_preface_of_http_2_is_closed() {
    let house = house("");
    for part in ["P", "PRI", "PRI * HTTP/2.0\r\n\r"] {
        assert_eq!(text(&exchange(house.http, part.as_bytes())), "", "{part:?}");
    }
}

#[test]
fn what_the_parser_refuses_is_problem_json_and_counted() {
    let house = house("");
    for (request, code) in [
        ("GET /article/1 HTTP/3.0\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /article/1 HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(20_000)), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(70_000)), 431),
        (format!("GET /article/1 HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(80)), 431),
    ] {
        let before = counted(fetch(house.http, "/metrics").text(), "BAD_REQUEST");
        let mut http = Http::connect(house.http);
        http.send(request.as_bytes());
        let response = http.response(false);
        assert_eq!((response.code, response.header("content-type")), (code, "application/problem+json"));
        let problem = response.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["code"].as_str()),
            (Some(code.into()), Some("BAD_REQUEST"))
        );
        assert_eq!(response.header("connection"), "close");
        assert!(http.is_closed());
        assert_eq!(counted(fetch(house.http, "/metrics").text(), "BAD_REQUEST"), before + 1, "{code}");
    }
}

#[test]
fn every_refusal_is_counted_by_status() {
    let house = house("");
    for (method, target) in
        [("GET", "/article/.x"), ("GET", "/nothing"), ("DELETE", "/article/1"), ("PUT", "/")]
    {
        Http::connect(house.http).ask(method, target, &[], "");
    }
    Http::connect(house.http).send(b"GET /article/1 HTTP/1.1\r\n\r\n");
    ask(house.proxy.address, "NONSENSE");
    ask(house.proxy.address, "GET ../x");
    until("all are counted", || {
        let metrics = fetch(house.http, "/metrics");
        let line = house.proxy.metrics()["refused"].clone();
        let both = [("BAD_REQUEST", 4), ("WRONG_METHOD", 3)];
        both.iter().all(|(status, count)| {
            counted(metrics.text(), status) == *count && line[status].as_u64() == Some(*count)
        })
    });
}

#[test]
fn the_wrong_protocol_is_told_the_right_port() {
    let house = house("");
    let lines = text(&exchange(house.http, b"GET article/1\n"));
    assert!(lines.contains("\"status\":\"BAD_REQUEST\"") && lines.ends_with("}\n"), "{lines}");
    assert!(lines.contains(&format!("port {}", house.proxy.port())), "{lines}");
    let mut http = Http::connect(house.proxy.address);
    let response = http.ask("GET", "/article/1", &[], "");
    assert_eq!((response.code, response.json()["code"].as_str()), (400, Some("BAD_REQUEST")));
    assert!(response.text().contains(&format!("port {}", house.http.port())), "{}", response.text());
    assert!(http.is_closed());
}

/// Asks four things at once and then one more, over one connection of HTTP/2 without TLS.
const FIVE_OVER_HTTP_2: &str = "
const session = require('http2').connect(process.argv[1]);
const ask = (method, path, body) => new Promise((done, fail) => {
  const stream = session.request({':method': method, ':path': path});
  let code;
  stream.on('response', headers => code = headers[':status']);
  stream.on('data', () => {});
  stream.on('end', () => done(code));
  stream.on('error', fail);
  stream.end(body);
});
(async () => {
  const long = 'x'.repeat(300000);
  const asked = [ask('GET', '/article/none'), ask('GET', '/metrics'), ask('POST', '/article/1', long), ask('GET', '/x')];
  console.log((await Promise.all(asked)).join(' '), await ask('GET', '/article/1'));
  session.close();
})().catch(error => { console.log(String(error)); process.exit(1); });
";

#[test]
fn http_2_is_served_by_prior_knowledge() {
    let house = house("");
    let url = format!("http://{}", house.http);
    if has_command("curl", "curl") {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"]);
        curl.arg(format!("{url}/article/1"));
        assert_eq!(text(&run_to_end(curl, b"").stdout), format!("{} 2 200", article(1)));
    }
    if has_command("curl", "curl") {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--http2-prior-knowledge", "-w", " %{http_code}", "-H"]);
        curl.arg(format!("x: {}", "a".repeat(20_000))).arg(format!("{url}/article/1"));
        let said = text(&run_to_end(curl, b"").stdout);
        assert!(said.contains("BAD_REQUEST") && said.ends_with(" 431"), "{said}");
        assert_eq!(counted(fetch(house.http, "/metrics").text(), "BAD_REQUEST"), 1);
    }
    if has_command("node", "nodejs") {
        let mut node = Command::new("node");
        node.args(["-e", FIVE_OVER_HTTP_2, &url]);
        assert_eq!(text(&run_to_end(node, b"").stdout), "404 200 405 400 200\n");
    }
}

#[test]
fn a_query_that_no_key_has_is_not_dropped_in_silence() {
    let house = house("--ignore-query utm_*,v");
    for (target, code) in [
        ("/article/1?user=1", 400),
        ("/article/1?utm_source=a&user=1", 400),
        ("/article/1?utm_source=a&v=2", 200),
        ("/article/1?", 200),
    ] {
        let response = fetch(house.http, target);
        assert_eq!(response.code, code, "{target}");
        assert!(code == 200 || response.text().contains("user"), "{target}: {}", response.text());
    }
}

#[test]
fn a_page_that_rebinds_its_name_reads_nothing_on_loopback() {
    let house = house("--http-names cache.example");
    for (host, code) in [
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost", 200),
        ("LocalHost:9080", 200),
        ("127.0.0.1:9080", 200),
        ("[::1]:9080", 200),
        ("cache.example", 200),
        ("nodes", 200),
    ] {
        for target in ["/article/1", "/", "/metrics"] {
            let mut http = Http::connect(house.http);
            http.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
            let response = http.response(false);
            assert_eq!(
                (response.code, response.header("x-content-type-options")),
                (
                    code,
                    match target {
                        "/metrics" if code == 200 => "",
                        _ => "nosniff",
                    }
                ),
                "{host} {target}"
            );
        }
    }
}

#[test]
fn the_page_works_under_any_path_behind_nginx() {
    let house = house("");
    let Some(nginx) = Front::nginx(&[house.http], "location /cache/ { proxy_pass http://nodes/; }") else {
        return;
    };
    let page = fetch(nginx.address, "/cache/");
    let mut files = 0;
    for name in ["src=\"", "href=\"", "action=\"", "from \"", "EventSource(\"", "fetch(`"] {
        for text in [page.text(), fetch(nginx.address, "/cache/app.js").text()] {
            for link in text.split(name).skip(1).filter_map(|rest| rest.split(['"', '`', '?']).next()) {
                assert!(!link.starts_with('/'), "{name}{link}");
                if link.ends_with(".js") || link.ends_with(".css") || link.ends_with(".svg") {
                    let file = fetch(nginx.address, &format!("/cache/{}", link.trim_start_matches("./")));
                    assert_eq!(file.code, 200, "{link}");
                    let known = format!("if-none-match: {}", file.header("etag"));
                    let again = fetch_with(nginx.address, &format!("/cache/{link}"), &[&known]);
                    assert_eq!(again.code, 304, "{link}");
                    files += 1;
                }
            }
        }
    }
    assert!(files > 4, "{files}");
    let mut stream = Http::connect(nginx.address);
    stream.send(b"GET /cache/events HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(stream.line(), "HTTP/1.1 200 OK");
    until("the first state comes through", || stream.line().starts_with("data: "));
}

#[test]
fn viewers_are_no_clients() {
    let house = house("");
    let mut viewers: Vec<Http> = (0..5).map(|_| Http::connect(house.http)).collect();
    for viewer in &mut viewers {
        viewer.send(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(viewer.line(), "HTTP/1.1 200 OK");
        let mut headers = Vec::new();
        until("its headers are over", || {
            let line = viewer.line().to_ascii_lowercase();
            headers.push(line.clone());
            line.is_empty()
        });
        assert!(headers.iter().any(|header| header == "x-accel-buffering: no"), "{headers:?}");
    }
    until("only the one that asks is counted", || {
        fetch(house.http, "/metrics").text().contains("\ndproxy_http_connections 1\n")
    });
}
