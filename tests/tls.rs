//! TLS, where it is not served: a client of it is told so at once, and the log has it.

use std::io::Write;

use crate::support::ask::{one_line, read_to_end};
use crate::support::command::{clean, has_command, run_to_end, text};
use crate::support::{Address, Data, Node, Start, exchange, get, timed};

/// The begin of a ClientHello (RFC 8446, section 4.1.2): a line end among its lengths, or bytes that are no UTF-8, or neither.
const HELLOS: [&[u8]; 3] = [
    b"\x16\x03\x01\x02\x0a\x01\x00\x02\x06\x03\x03",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xff\n",
    b"\x16",
];
/// What the log has of a client of TLS.
const LOGGED: &str = "speaks TLS to the port of lines";

/// An origin that would wait for the rest of a line for longer than a test.
fn origin(data: &Data) -> Node {
    Start::origin(data.path(), "--line-deadline 10m").run()
}

/// The answer to bytes of a client that keeps its half open, as one of TLS does.
fn answer(to: Address, hello: &[u8]) -> String {
    let mut stream = to.connect().unwrap();
    stream.write_all(hello).unwrap();
    text(&read_to_end(&mut stream))
}

#[test]
fn a_client_of_tls_is_told_at_once_that_there_is_none() {
    let data = Data::articles(1);
    let node = origin(&data);
    for hello in HELLOS {
        let line = answer(node.address, hello);
        assert!(line.contains("BAD_REQUEST") && line.contains("the client speaks TLS"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
    assert!(node.log().contains(LOGGED), "{}", node.log());
    // Only the first bytes of a connection tell its protocol.
    let line = one_line(&exchange(node.address, b"GET\x16\x03\n"), "GET");
    assert!(!line.contains("TLS"), "{line}");
    assert_eq!(get(node.address, "article/1")["status"], "OK");
}

#[test]
fn many_clients_of_tls_are_few_lines_of_the_log() {
    let data = Data::articles(1);
    let node = origin(&data);
    let (took, ()) = timed(|| {
        for _ in 0..200 {
            answer(node.address, HELLOS[0]);
        }
    });
    let lines = node.log().lines().filter(|line| line.contains(LOGGED)).count() as u64;
    assert!((1..=took.as_secs() + 1).contains(&lines), "{lines} lines");
}

#[test]
fn openssl_sees_that_plain_text_came() {
    if !has_command("openssl", "openssl") {
        return;
    }
    let data = Data::articles(1);
    let node = origin(&data);
    let mut command = clean("openssl");
    command.args(["s_client", "-connect", &node.address.to_string()]);
    let output = run_to_end(command, b"");
    let said = text(&output.stderr) + &text(&output.stdout);
    // "packet length too long" is what 3.2 and later call it for some versions of records.
    let known = ["wrong version number", "packet length too long"];
    assert!(!output.status.success() && known.iter().any(|words| said.contains(words)), "{said}");
    assert!(node.log().contains(LOGGED), "{}", node.log());
}
