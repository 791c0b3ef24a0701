//! Bodies of requests that nobody wants: the response always arrives, and the connection goes on where it can.

use std::process::Command;
use std::time::Duration;

use crate::http::{house, with_http};
use crate::support::command::{has_command, run_to_end, text};
use crate::support::front::Front;
use crate::support::http::{Http, fetch};
use crate::support::{Start, pause, timed};

#[test]
fn a_body_behind_its_head_breaks_no_connection() {
    let house = house("");
    let targets = [("GET", "/article/1", 200), ("POST", "/article/1", 405), ("POST", "/metrics", 405)];
    let others = [("GET", "/metrics", 200), ("PUT", "/", 405), ("GET", "/none", 400), ("OPTIONS", "/", 204)];
    for (method, target, code) in targets.into_iter().chain(others) {
        let mut http = Http::connect(house.http);
        for _ in 0..10 {
            http.send(
                format!("{method} {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n").as_bytes(),
            );
            pause(Duration::from_millis(10));
            http.send(&[b'x'; 20]);
            assert_eq!(http.response(false).code, code, "{method} {target}");
        }
        http.send(
            format!("{method} {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes(),
        );
        http.send(b"5\r\nalpha\r\n0\r\n\r\n");
        assert_eq!(http.response(false).code, code, "{method} {target} in chunks");
        assert_eq!(http.ask("GET", "/article/1", &[], "").code, 200, "the connection goes on");
    }
}

#[test]
fn a_body_that_is_too_long_is_answered_before_the_connection_ends() {
    let house = house("");
    let megabytes = vec![b'x'; 8 << 20];
    for length in ["content-length: 8388608", "transfer-encoding: chunked"] {
        let mut http = Http::connect(house.http);
        http.send(format!("POST /article/1 HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n").as_bytes());
        if length.ends_with("chunked") {
            http.send(b"800000\r\n");
        }
        http.send(&megabytes);
        let response = http.response(false);
        assert_eq!((response.code, response.header("connection")), (405, "close"), "{length}");
        assert_eq!(response.json()["code"], "WRONG_METHOD", "the whole body");
        assert!(http.is_closed());
    }
}

#[test]
fn a_body_that_is_too_long_is_answered_in_every_version_of_http() {
    if !has_command("curl", "curl") {
        return;
    }
    let house = house("");
    let url = format!("http://{}/article/1", house.http);
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        for header in ["x: y", "expect:", "transfer-encoding: chunked"] {
            if header.starts_with("transfer") && version != "--http1.1" {
                continue;
            }
            let mut curl = Command::new("curl");
            curl.args(["-sS", version, "-H", header, "-w", " %{http_code}", "--data-binary", "@-", &url]);
            let output = run_to_end(curl, &vec![b'x'; 3 << 20]);
            let said = text(&output.stdout);
            assert!(output.status.success(), "{version} {header}: {output:?}");
            assert!(said.contains("WRONG_METHOD") && said.ends_with(" 405"), "{version} {header}: {said}");
        }
    }
}

#[test]
fn a_body_that_never_comes_holds_no_response_back() {
    let house = house("");
    for head in
        ["content-length: 20", "transfer-encoding: chunked", "expect: 100-continue\r\ncontent-length: 9"]
    {
        let mut http = Http::connect(house.http);
        http.send(format!("GET /article/1 HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n").as_bytes());
        let (time, response) = timed(|| http.response(false));
        assert_eq!((response.code, response.header("connection")), (200, "close"), "{head}");
        assert!(time < Duration::from_secs(10), "{time:?}");
    }
}

#[test]
fn nginx_does_not_take_nodes_for_dead_because_of_bodies() {
    let house = house("");
    let [(_one, first), (_two, second)] =
        [(); 2].map(|()| with_http(Start::balancer(&[house.proxy.address], "")));
    let Some(nginx) = Front::nginx(&[first, second], "location / { proxy_pass http://nodes; }") else {
        return;
    };
    for _ in 0..3 {
        let posted = Http::connect(nginx.address).ask("POST", "/article/1", &[], &"x".repeat(900_000));
        assert_eq!(posted.code, 405, "{}", posted.text());
        assert_eq!(fetch(nginx.address, "/article/1").code, 200);
    }
}
