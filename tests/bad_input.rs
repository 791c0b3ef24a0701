//! Bad input: one clear error line and a close, no upstream request, and the node stays up.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::support::ask::{one_line, parse, read_to_end};
use crate::support::fake::{Gate, Hello, answer_soundly};
use crate::support::{Address, Data, Fake, Node, Session, Start, ask, exchange, get, pause, until};

/// The longest request line, its end included.
const LINE: usize = 8 * 1024;

/// Bytes that are not a request. After those without a line end the stream ends.
fn bad_lines() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 58] = [
        b"\n",
        b"\r\n",
        b" \n",
        b"\r",
        b"\0\n",
        b"\0\0\0\0",
        b"GET\n",
        b"GET \n",
        b"GET",
        b"GET article/1",
        b"GET article/1\r",
        b"GET article/1 ",
        b"GET  article/1\n",
        b"GET article/1 \n",
        b"GET article/1  \n",
        b" GET article/1\n",
        b"\tGET article/1\n",
        b"GET\tarticle/1\n",
        b"GET article/\t1\n",
        b"get article/1\n",
        b"Get article/1\n",
        b"GET article/1\x07\n",
        b"GET article/1\x1b[2J\n",
        b"GET article/1\x7f\n",
        b"GET article/1\0\n",
        b"GET article/1\0/2\n",
        b"GET article/\xff\xfe\n",
        b"GET article/\xc3\xa9\n",
        b"GET article/\xc0\xae\xc0\xae\n",
        b"\xff\xff\xff\n",
        b"\xef\xbb\xbfGET article/1\n",
        b"GET article/1\rGET article/2\n",
        b"GET article/1\r\r\n",
        b"GET ../article/1\n",
        b"GET article/..\n",
        b"GET article/../1\n",
        b"GET article/./1\n",
        b"GET article/.hidden\n",
        b"GET ./article\n",
        b"GET /etc/passwd\n",
        b"GET //etc/passwd\n",
        b"GET article//1\n",
        b"GET article/1/\n",
        b"GET article/%2e%2e/1\n",
        b"GET article%2f1\n",
        b"GET article\\1\n",
        b"GET ..\\article\\1\n",
        b"GET article/1?x\n",
        b"GET article/*\n",
        b"GET article/$(id)\n",
        b"GET article\n",
        b"METRICS article/1\n",
        b"metrics\n",
        b"PUT article/1 {\"a\":1}\n",
        b"HELLO\n",
        b"HELLO 3\n",
        b"1 GET article/1\n",
        b"{\"verb\":\"GET\",\"path\":\"article/1\"}\n",
    ];
    texts.into_iter().map(<[u8]>::to_vec).chain(long_lines()).chain(foreign_protocols()).collect()
}

fn long_lines() -> [Vec<u8>; 5] {
    let line = |path: String| format!("GET {path}\n").into_bytes();
    let segment = "s".repeat(128);
    [
        line(format!("article/{segment}s")),
        // 513 bytes in segments that are each short enough.
        line([&segment[..], &segment, &segment, &"s".repeat(126)].join("/")),
        line(format!("article/{}", "k".repeat(LINE))),
        vec![b'x'; LINE * 4],
        format!("GET article/1{}\n", " ".repeat(LINE)).into_bytes(),
    ]
}

fn foreign_protocols() -> Vec<Vec<u8>> {
    let mut others: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n".to_vec(),
        b"POST /article/1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"*2\r\n$3\r\nGET\r\n$9\r\narticle/1\r\n".to_vec(),
        // A shortened TLS ClientHello.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x5a\x1f\x0a\x00\x00\x20\x13\x02\x13\x03".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
    ];
    others.extend((1..=20).map(random_bytes));
    others
}

/// Bytes from a seeded generator; the first is not ASCII, so that they are never a request by chance.
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = vec![0x80 | seed as u8];
    for _ in 0..seed * 97 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push(state as u8);
    }
    bytes.push(b'\n');
    bytes
}

/// Every role and its upstream; an origin has none.
fn roles() -> (Data, Vec<(Node, Option<Fake>)>) {
    let data = Data::articles(2);
    let origin = Start::origin(data.path(), "").run();
    let (behind_proxy, behind_balancer) = (Fake::origin(), Fake::start(Hello::Granted, answer_soundly));
    let proxy = Start::proxy(behind_proxy.address, "").run();
    let balancer = Start::balancer(&[behind_balancer.address], "").run();
    (data, vec![(origin, None), (proxy, Some(behind_proxy)), (balancer, Some(behind_balancer))])
}

fn assert_refused(node: Address, bytes: &[u8]) {
    let shown = bytes[..bytes.len().min(80)].escape_ascii().to_string();
    let reply = one_line(&exchange(node, bytes), &shown);
    let reply = parse(&reply);
    assert_eq!(reply["status"], "BAD_REQUEST", "{shown:?} got {reply}");
    assert!(reply["data"].as_str().is_some_and(|text| !text.is_empty()), "{shown:?} got {reply}");
}

#[test]
fn every_bad_line_is_refused_at_every_role() {
    let (_data, roles) = roles();
    for (mut node, upstream) in roles {
        for bytes in bad_lines() {
            assert_refused(node.address, &bytes);
        }
        assert!(node.is_running());
        let asked = upstream.as_ref().map(Fake::requests).unwrap_or_default();
        assert!(asked.is_empty(), "bad input went upstream: {asked:?}");
        assert_eq!(get(node.address, "article/1")["status"], "OK");
        assert_eq!(upstream.map_or(1, |upstream| upstream.requests().len()), 1, "the one good request did");
    }
}

#[test]
fn the_longest_path_is_still_a_request() {
    let (_data, roles) = roles();
    let segment = "s".repeat(128);
    let path = [&segment[..], &segment, &segment, &"s".repeat(125)].join("/");
    assert_eq!(path.len(), 512);
    for (node, upstream) in roles {
        let expected = if upstream.is_some() { "OK" } else { "NOT_FOUND" };
        assert_eq!(get(node.address, &path)["status"], expected);
    }
}

#[test]
fn bad_lines_end_a_session_or_are_answered_in_it() {
    let (_data, roles) = roles();
    for (node, upstream) in roles {
        for line in
            ["no id\n", "GET article/1\n", "-1 GET article/1\n", "18446744073709551616 GET article/1\n", "\n"]
        {
            let mut session = Session::open(node.address);
            session.send(line);
            let reply = session.line().expect("a word before the end");
            assert!(reply.starts_with("{\"status\":\"BAD_REQUEST\""), "{line:?} got {reply}");
            assert_eq!(session.line(), None, "{line:?} ends the session");
        }
        let mut session = Session::open(node.address);
        session.send(&format!("1 GET article/{}\n", "k".repeat(LINE)));
        assert!(session.line().is_some_and(|reply| reply.contains("BAD_REQUEST")));
        assert_eq!(session.line(), None, "a line that is too long ends the session");
        assert_eq!(upstream.map_or(0, |upstream| upstream.requests().len()), 0);
    }
}

#[test]
fn an_endless_line_takes_no_memory() {
    let (_data, roles) = roles();
    for (node, _upstream) in &roles {
        get(node.address, "article/1");
        let before = node.resident_mib();
        let mut stream = node.address.connect().expect("a connection");
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..1024 {
            match stream.write_all(&chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("the node neither reads nor closes")
                }
                Err(_) => break,
            }
        }
        let answer = read_to_end(&mut stream);
        assert!(answer.is_empty() || one_line(&answer, "1 GiB").contains("BAD_REQUEST"));
        let grown = node.resident_mib().saturating_sub(before);
        assert!(grown < 16, "a line of 1 GiB took {grown} MiB");
        assert_eq!(get(node.address, "article/1")["status"], "OK");
    }
}

#[test]
fn a_line_may_arrive_in_pieces() {
    let (_data, roles) = roles();
    for (node, _upstream) in &roles {
        let mut stream = node.address.connect().expect("a connection");
        for piece in ["G", "ET art", "icle/1", "\r", "\n"] {
            stream.write_all(piece.as_bytes()).expect("a node that reads");
            pause(Duration::from_millis(20));
        }
        let reply = one_line(&read_to_end(&mut stream), "pieces");
        assert_eq!(parse(&reply)["status"], "OK");
    }
}

#[test]
fn bytes_after_a_plain_request_do_not_change_its_reply() {
    let gate = Gate::default();
    let origin = gate.peer();
    let proxy = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[proxy.address], "").run();
    let mut clients = [&proxy, &balancer].map(|node| node.address.connect().expect("a connection"));
    for (n, client) in clients.iter_mut().enumerate() {
        client.write_all(format!("GET article/{n}\n").as_bytes()).expect("a node that reads");
    }
    until("both wait for the origin", || origin.requests().len() == clients.len());
    for client in &mut clients {
        client.write_all(b"more").expect("an open connection");
    }
    gate.open();
    for (n, client) in clients.iter_mut().enumerate() {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("a reply that no reset overtakes");
        assert_eq!(parse(answer.trim_end())["data"]["path"], format!("article/{n}"));
    }
}

#[test]
fn a_client_that_closes_early_leaves_nothing_behind() {
    let (_data, roles) = roles();
    for (mut node, _upstream) in roles {
        for bytes in [&b"GET article/1\n"[..], b"METRICS\n", b"GET art", b""] {
            for _ in 0..50 {
                let mut stream = node.address.connect().expect("a connection");
                stream.write_all(bytes).expect("a node that reads");
            }
        }
        assert!(node.is_running());
        assert!(ask(node.address, "GET article/1").starts_with("{\"status\":\"OK\""));
    }
}
