//! `dproxy client`: its exit codes and its output, for one request and for many.

use std::fs::File;
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::support::ask::parse;
use crate::support::command::{BINARY, clean, dproxy, run_to_end, text};
use crate::support::fake::{Fault, Hello};
use crate::support::node::own_host;
use crate::support::{Address, Data, Fake, Node, Start, TempDir};

fn client(node: Address, words: &[&str]) -> Output {
    let (host, port) = (node.host(), node.port().to_string());
    dproxy(&[&["client", "--host", &host, "--port", &port], words].concat())
}

/// The lines it printed, each a JSON object.
fn replies(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(parse).collect()
}

fn only_reply(output: &Output) -> Value {
    let mut replies = replies(output);
    assert_eq!(replies.len(), 1, "one line into a pipe: {output:?}");
    let reply = replies.remove(0);
    assert!(reply["latency_ms"].is_number(), "{reply}");
    reply
}

fn origin() -> (Data, Node) {
    let data = Data::articles(30);
    data.put("broken/1", b"{");
    let origin = Start::origin(data.path(), "").run();
    (data, origin)
}

#[test]
fn one_document() {
    let (_data, origin) = origin();
    let output = client(origin.address, &["--get", "article/1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(only_reply(&output)["status"], "OK");
    assert!(text(&output.stdout).contains("1.10"), "the document keeps its text: {output:?}");
}

#[test]
fn one_path_alone_is_one_plain_connection() {
    let older = Fake::start(Hello::Ignored, crate::support::fake::answer_soundly);
    assert_eq!(client(older.address, &["--get", "article/1"]).status.code(), Some(0));
    assert_eq!((older.connections(), older.requests()), (1, vec!["GET article/1".to_owned()]));
}

#[test]
fn admin_requests_print_their_replies() {
    let (_data, origin) = origin();
    let proxy = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[proxy.address], "").run();
    let name = proxy.address.to_string();
    let told = |words: &[&str]| {
        let output = client(balancer.address, words);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        only_reply(&output)["data"].take()
    };
    told(&["--get", "article/1"]);
    assert_eq!(told(&["--explain", "article/1"])["state"], "fresh");
    assert_eq!(told(&["--purge-soft", "article/*"])["purged"], 1);
    assert_eq!(told(&["--explain", "article/1"])["state"], "stale");
    assert_eq!(told(&["--purge", "article/1"])["purged"], 1);
    assert_eq!(told(&["--explain", "article/1"])["cached"], false);
    let refused = client(balancer.address, &["--drain", &name]);
    assert_eq!(refused.status.code(), Some(1), "it is the last one");
    assert!(only_reply(&refused)["data"].as_str().is_some_and(|why| why.contains("DRAIN force")));
    assert_eq!(told(&["--drain", &name, "--force"])["state"], "draining");
    assert_eq!(client(balancer.address, &["--get", "article/1"]).status.code(), Some(1), "no proxy is left");
    assert_eq!(told(&["--undrain", &name])["state"], "healthy");
    told(&["--get", "article/1"]);
}

#[test]
fn a_purge_that_a_proxy_refuses_is_exit_code_1() {
    let (_data, origin) = origin();
    let strict = Start::proxy(origin.address, "--admin-from 10.0.0.0/8").run();
    let older = Fake::start(Hello::Refused, |asked| match asked.request.starts_with("PURGE") {
        true => asked.reply(r#"{"status":"WRONG_METHOD: PURGE","data":null}"#),
        false => asked.reply(r#"{"status":"OK","data":{"total_requests":1}}"#),
    });
    let willing = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[strict.address, older.address, willing.address], "").run();
    let output = client(balancer.address, &["--purge", "article/*"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let mut reply = only_reply(&output);
    assert_eq!(reply["status"], "PROXY_ERROR", "{reply}");
    let proxies = reply["data"]["proxies"].take();
    assert_eq!(proxies[willing.address.to_string()]["purged"], 0, "{proxies}");
    let told = text(&output.stderr);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    for (refuser, advice) in [(strict.address, "--admin-from"), (older.address, "restart it")] {
        let of = |line: &&&str| line.contains(&refuser.to_string()) && line.contains(advice);
        assert_eq!(lines.iter().filter(of).count(), 1, "{told}");
    }
}

#[test]
fn a_request_that_the_node_cannot_do_is_exit_code_1() {
    let (_data, origin) = origin();
    let proxy = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[proxy.address], "").run();
    for (node, words, status) in [
        (balancer.address, ["--drain", "127.0.0.1:1"], "BAD_REQUEST"),
        (balancer.address, ["--undrain", "127.0.0.1:1"], "BAD_REQUEST"),
        (proxy.address, ["--drain", "127.0.0.1:1"], "WRONG_METHOD"),
        (origin.address, ["--purge", "article/1"], "WRONG_METHOD"),
        (origin.address, ["--explain", "article/1"], "WRONG_METHOD"),
    ] {
        let output = client(node, &words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        let reply = only_reply(&output);
        assert_eq!(reply["status"], status, "{words:?}");
        assert!(reply["data"].as_str().is_some_and(|why| why.len() > 10), "it says why: {reply}");
    }
    for words in [["--drain", "no-port"], ["--purge", "article//1"], ["--explain", "article"]] {
        let output = client(balancer.address, &words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty() && text(&output.stderr).lines().count() == 1, "{output:?}");
    }
}

#[test]
fn a_full_output_is_an_error_and_a_closed_pipe_is_not() {
    let keys = TempDir::new();
    let trace = keys.path().join("keys");
    std::fs::write(&trace, "a/1\nb/1\n").expect("a file");
    let trace = format!("simulate --capacity 10 --trace {}", trace.display());
    for words in ["--help", "--version", "client --help", "completions bash", "man", "check", &trace] {
        let end = |out: Stdio| {
            let mut command = clean(BINARY);
            command.args(words.split(' ')).stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
            command.spawn().and_then(Child::wait_with_output).expect("it runs")
        };
        let full = end(File::options().write(true).open("/dev/full").expect("/dev/full").into());
        assert_eq!(full.status.code(), Some(1), "{words}: {full:?}");
        assert!(text(&full.stderr).contains("cannot write to standard output"), "{words}: {full:?}");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let left = end(writer.into());
        assert_eq!((left.status.code(), text(&left.stderr).as_str()), (Some(0), ""), "{words}");
    }
}

#[test]
fn metrics() {
    let (_data, origin) = origin();
    let output = client(origin.address, &["--metrics"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(only_reply(&output)["data"]["total_requests"], 0);
}

#[test]
fn any_other_status_is_exit_code_1() {
    let (_data, origin) = origin();
    for (path, status) in [("article/404", "NOT_FOUND"), ("broken/1", "BAD_DOCUMENT")] {
        let output = client(origin.address, &["--get", path]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(only_reply(&output)["status"], status);
    }
}

#[test]
fn no_reply_is_exit_code_3() {
    let faults = [Fault::Close, Fault::HalfLine, Fault::Line("hello"), Fault::Line("[]")];
    let bad: Vec<Fake> = faults
        .into_iter()
        .map(|fault| Fake::start(Hello::Refused, move |asked| fault.strike(asked)))
        .collect();
    let nobody = Address((own_host(), 9).into());
    for address in bad.iter().map(|fake| fake.address).chain([nobody]) {
        for words in [&["--get", "article/1"][..], &["--metrics"]] {
            let output = client(address, words);
            assert_eq!(output.status.code(), Some(3), "{output:?}");
            let reply = only_reply(&output);
            assert_eq!((&reply["status"], &reply["data"]), (&"CLIENT_CONNECTION_ERROR".into(), &Value::Null));
        }
    }
}

#[test]
fn an_unknown_host_is_exit_code_3() {
    let output = dproxy(&["client", "--host", "no-such-host.invalid", "--get", "article/1"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(only_reply(&output)["status"], "CLIENT_CONNECTION_ERROR");
    assert!(text(&output.stderr).contains("no-such-host.invalid cannot be resolved"), "{output:?}");
    let output = dproxy(&["bench", "--host", "no-such-host.invalid"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("no-such-host.invalid cannot be resolved"), "{output:?}");
}

#[test]
fn a_connection_error_is_reported_once_and_not_per_key() {
    let nobody = Address((own_host(), 9).into());
    let output = client(nobody, &["--get", "a/1", "a/2", "a/3"]);
    assert_eq!((output.status.code(), replies(&output).len()), (Some(3), 3));
    assert_eq!(text(&output.stderr).matches("nothing listens on").count(), 1, "{output:?}");
    let http = Fake::start(Hello::Refused, |asked| {
        asked.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let output = client(http.address, &["--get", "article/1"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("is it a dproxy node?"), "{output:?}");
}

#[test]
fn a_host_may_be_a_name() {
    let (_data, origin) = origin();
    let port = origin.port().to_string();
    let output = dproxy(&["client", "--host", "localhost", "--port", &port, "--get", "article/1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn documents_are_printed_in_the_order_of_the_requests() {
    let (_data, origin) = origin();
    let paths: Vec<String> = (1..=30).rev().map(|i| format!("article/{i}")).collect();
    let words: Vec<&str> = std::iter::once("--get").chain(paths.iter().map(String::as_str)).collect();
    let output = client(origin.address, &words);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let ids: Vec<Value> = replies(&output).into_iter().map(|mut reply| reply["data"]["id"].take()).collect();
    assert_eq!(ids, paths);
    let output = client(origin.address, &["--get", "article/1", "article/404", "article/2"]);
    assert_eq!(output.status.code(), Some(1), "one of them is not OK: {output:?}");
    let statuses: Vec<Value> = replies(&output).into_iter().map(|mut reply| reply["status"].take()).collect();
    assert_eq!(statuses, ["OK", "NOT_FOUND", "OK"]);
}

#[test]
fn many_documents_from_a_node_without_sessions() {
    for hello in [Hello::Refused, Hello::Ignored] {
        let older = Fake::start(hello, crate::support::fake::answer_soundly);
        let output = client(older.address, &["--get", "article/1", "article/2"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let replies = replies(&output);
        assert_eq!((&replies[0]["data"]["path"], replies.len()), (&"article/1".into(), 2));
    }
}

#[test]
fn keys_come_from_a_file_or_from_the_standard_input() {
    let (data, origin) = origin();
    let list = data.path().join("keys");
    std::fs::write(&list, "article/3\narticle/1\n").expect("a file");
    let from_file = client(origin.address, &["--keys", list.to_str().expect("text")]);
    let mut command = clean(BINARY);
    command.args(["client", "--port", &origin.port().to_string(), "--keys", "-"]);
    let from_input = run_to_end(command, b"article/3\narticle/1\n");
    let told = |words: &[&str], input: &[u8]| {
        let mut command = clean(BINARY);
        command.args(["client", "--port", &origin.port().to_string()]).args(words);
        let output = run_to_end(command, input);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(told(&["--keys", "-"], b"\xEF\xBB\xBFarticle/1\r\n\r\n \n"), (Some(0), String::new()));
    for (input, line) in [(&b"article/1\nwrong\n"[..], "line 2 of standard input"), (b"\xff\n", "line 1 of")]
    {
        let (code, complaint) = told(&["--keys", "-"], input);
        assert!(code == Some(1) && complaint.contains(line), "{complaint}");
    }
    let (code, complaint) = told(&["--keys", "/no/such"], b"");
    assert!(code == Some(1) && complaint.contains("/no/such"), "{complaint}");
    for output in [from_file, from_input] {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let ids: Vec<Value> =
            replies(&output).into_iter().map(|mut reply| reply["data"]["id"].take()).collect();
        assert_eq!(ids, ["article/3", "article/1"]);
    }
}

#[test]
fn a_line_that_is_no_key_costs_no_other_its_reply() {
    let (_data, origin) = origin();
    let mut command = clean(BINARY);
    command.args(["client", "--port", &origin.port().to_string(), "--keys", "-"]);
    let input = format!("article/1\nwrong\n{}\n\u{feff}article/2\n", "x".repeat(100_000));
    let output = run_to_end(command, input.as_bytes());
    let statuses: Vec<Value> = replies(&output).into_iter().map(|mut reply| reply["status"].take()).collect();
    assert_eq!(statuses, ["OK", "BAD_REQUEST", "BAD_REQUEST", "OK"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("line 2 of standard input") && said.contains("line 3 of standard input"), "{said}");
}

#[test]
fn a_closed_output_is_no_crash() {
    let (_data, origin) = origin();
    for output in [">&-", ">/dev/full", "2>&-"] {
        let mut command = clean("sh");
        let line = format!("exec \"$0\" client --port {} --get article/1 {output}", origin.port());
        command.args(["-c", &line, BINARY]);
        let output = run_to_end(command, b"");
        assert!(output.status.code().is_some_and(|code| code <= 3), "no panic, no signal: {output:?}");
        assert!(!text(&output.stderr).contains("panicked"), "{output:?}");
    }
}

#[test]
fn a_stream_of_keys_is_bounded_and_ends_with_its_reader() {
    let (_data, origin) = origin();
    let mut command = clean("bash");
    let line = format!(
        "yes article/1 | \"$0\" client --port {} --keys - | head -n 3000; echo ${{PIPESTATUS[1]}}",
        origin.port()
    );
    command.args(["-c", &line, BINARY]);
    let output = run_to_end(command, b"");
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!((lines.len(), lines[3000].as_str()), (3001, "0"), "it ended by itself, and without an error");
}

#[test]
fn a_list_without_keys_is_no_success_in_client_and_bench() {
    let (_data, origin) = origin();
    let port = origin.port().to_string();
    for words in [&["client"][..], &["bench", "--requests", "1"]] {
        let mut command = clean(BINARY);
        command.args(words).args(["--port", &port, "--keys", "/dev/null"]);
        let output = run_to_end(command, b"");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(text(&output.stderr).contains("no key in /dev/null"), "{}", text(&output.stderr));
    }
}
