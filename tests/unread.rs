//! Clients that request much and read nothing use a bounded part of a node's memory together, over lines and HTTP, and
//! clients that read are served.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::support::fake::Hello;
use crate::support::http::{Http, fetch};
use crate::support::{Address, Data, Fake, Node, Session, Start, ask, heavy, status_of, until};

const MIB: usize = 1 << 20;
/// The limit of unread replies, in MiB.
const MAX_UNREAD: u64 = 64;
/// The other memory of a node, in MiB: process, cache, replies on the way.
const BESIDE: u64 = 96;
/// Clients that read nothing. The kernel buffers some 3 MiB for each; the rest waits in the node.
const SESSIONS: usize = 24;
/// Sessions of the largest attempt.
const MANY_SESSIONS: usize = 400;
/// HTTP clients that read nothing; each has one response at a time.
const PIPELINES: usize = 200;

/// Documents of nearly 1 MiB, and small ones.
fn origin() -> Fake {
    let text = "x".repeat(MIB - 4096);
    Fake::start(Hello::Granted, move |asked| {
        let large = asked.path().is_some_and(|path| path.starts_with("large/"));
        asked.reply(&format!("{{\"status\":\"OK\",\"data\":\"{}\"}}", if large { &text } else { "small" }));
    })
}

/// The keys of one such client: some of `keys` large documents.
fn keys(client: usize, count: usize, keys: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |number| (client * count + number) % keys)
}

fn sessions(to: Address, of: usize) -> Vec<Session> {
    let greedy = |client| {
        let mut session = Session::open(to);
        let lines: String = keys(client, 20, of).map(|key| format!("{key} GET large/{key}\n")).collect();
        session.send(&lines);
        session
    };
    (0..SESSIONS).map(greedy).collect()
}

fn pipelines(to: Address, of: usize) -> Vec<Http> {
    let greedy = |client| {
        let mut http = Http::connect(to);
        let requests = keys(client, 8, of).map(|key| format!("GET /large/{key} HTTP/1.1\r\nHost: a\r\n\r\n"));
        http.send(requests.collect::<String>().as_bytes());
        http
    };
    (0..PIPELINES).map(greedy).collect()
}

/// A client of HTTP/2 that asks for `count` large documents and grants no window for a byte of them (RFC 9113, 6.5.2 and 8.3.1; the
/// fields of HPACK by RFC 7541, 6.1 and 6.2.2).
fn without_window(to: Address, client: usize, count: usize, of: usize) -> TcpStream {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for (index, key) in keys(client, count, of).enumerate() {
        let path = format!("/large/{key}");
        let head = [b"\x82\x86\x01\x01a\x04".as_slice(), &[path.len() as u8], path.as_bytes()].concat();
        bytes.extend(frame(1, 5, 2 * index as u32 + 1, &head));
    }
    let mut stream = to.connect().expect("a connection");
    stream.write_all(&bytes).expect("a node that reads");
    stream
}

/// A client that reads is served beside such clients, and the node keeps to its limit.
fn bears<G>(node: &Node, greedy: &[G], status: impl Fn(&str) -> String) {
    // Large documents may be refused for a moment, until the clients that read nothing are cut.
    until("a client that reads is served", || {
        assert_eq!(status("small/1"), "OK", "a small document always is");
        node.log().contains("--max-unread") && (0..20).all(|_| status("large/1") == "OK")
    });
    let peak = node.peak_mib();

    assert!(peak < MAX_UNREAD + BESIDE, "{peak} MiB for {} clients that read nothing", greedy.len());
}

/// Documents of 1 MiB to the byte: with what stands around them, their lines are longer.
fn whole_mib() -> Data {
    let data = Data::articles(1);
    for key in 0..20 {
        data.put(&format!("large/{key}"), format!("\"{}\"", "x".repeat(MIB - 2)).as_bytes());
    }
    data
}

/// 400 sessions that request 300 documents each and read nothing, at a node with a limit of `limit` MiB: it holds less than
/// `most` MiB, and refuses at most `refusals` of 15 large documents to clients that read, and no small ones.
fn bears_many(node: &Node, limit: u64, most: u64, refusals: usize) {
    let greedy = |client: usize| {
        let mut session = Session::open(node.address);
        let lines: String =
            keys(client, 300, 20).enumerate().map(|(id, key)| format!("{id} GET large/{key}\n")).collect();
        session.send(&lines);
        session
    };
    let sessions: Vec<Session> = (0..MANY_SESSIONS).map(greedy).collect();
    let mut refused = 0;
    for key in 0..15 {
        let large = status_of(&ask(node.address, &format!("GET large/{key}")));
        refused += usize::from(large != "OK");
        let reply = ask(node.address, "GET article/1");
        assert_eq!(status_of(&reply), "OK", "a client that reads is served beside {} others", sessions.len());
    }
    assert!(refused <= refusals, "{refused} of 15 large documents are refused to clients that read");
    until("a large document is served, too", || status_of(&ask(node.address, "GET large/1")) == "OK");
    let peak = node.peak_mib();
    assert!(peak < most, "{peak} MiB, though --max-unread is {limit} MiB");
}

#[test]
fn a_balancer_keeps_to_its_limit_of_unread_bytes_whatever_the_size_of_documents() {
    let _alone = heavy();
    let data = whole_mib();
    let origin = Start::origin(data.path(), "").run();
    let patient = "--fetch-deadline 20s --max-bytes 40MiB";
    let proxy = Start::proxy(origin.address, patient).run();
    for key in 0..20 {
        assert_eq!(status_of(&ask(proxy.address, &format!("GET large/{key}"))), "OK");
    }
    for limit in [16, 64] {
        let words = format!("--max-unread {limit}MiB --try-deadline 25s");
        let balancer = Start::balancer(&[proxy.address], &words).run();
        // Half as much again for blocks of which a part is held, and what is read and not framed yet.
        bears_many(&balancer, limit, limit * 3 / 2 + 64, 1);
    }
}

#[test]
fn an_origin_keeps_to_its_limit_of_unread_bytes() {
    let _alone = heavy();
    let data = whole_mib();
    let origin = Start::origin(data.path(), "--max-unread 64MiB").run();
    // 32 files at once are read, each twice in memory until it is checked.
    bears_many(&origin, 64, 64 + 64 + 64, 15);
}

fn words() -> String {
    format!("--max-unread {MAX_UNREAD}MiB --write-deadline 2m --http-port 0")
}

const SMALL: &str = "--max-bytes 20MiB --fetch-deadline 20s";

#[test]
fn unread_documents_that_left_the_cache_are_bounded() {
    let _alone = heavy();
    let origin = origin();
    let proxy = Start::proxy(origin.address, &format!("{} {SMALL}", words())).run();
    bears(&proxy, &sessions(proxy.address, usize::MAX), |path| {
        status_of(&ask(proxy.address, &format!("GET {path}")))
    });
}

#[test]
fn unread_relayed_lines_are_bounded() {
    let _alone = heavy();
    let origin = origin();
    let proxy = Start::proxy(origin.address, SMALL).run();
    let balancer = Start::balancer(&[proxy.address], &format!("{} --try-deadline 25s", words())).run();
    bears(&balancer, &sessions(balancer.address, 10), |path| {
        status_of(&ask(balancer.address, &format!("GET {path}")))
    });
}

#[test]
fn unread_http_responses_are_bounded() {
    let _alone = heavy();
    let origin = origin();
    let proxy = Start::proxy(origin.address, SMALL).run();
    let mut balancer = Start::balancer(&[proxy.address], &format!("{} --try-deadline 25s", words())).run();
    let http = balancer.serves_http();
    bears(&balancer, &pipelines(http, 10), |path| {
        let response = fetch(http, &format!("/{path}"));
        if response.code == 200 { "OK".to_owned() } else { response.text().to_owned() }
    });
}

#[test]
fn responses_of_http_2_without_a_window_are_bounded() {
    let _alone = heavy();
    let origin = origin();
    let proxy = Start::proxy(origin.address, SMALL).run();
    let mut balancer = Start::balancer(&[proxy.address], &format!("{} --try-deadline 25s", words())).run();
    let http = balancer.serves_http();
    // Not as many at once as a balancer has in flight at a node: that limit is another matter.
    let greedy: Vec<TcpStream> = (0..10).map(|client| without_window(http, client, 80, 10)).collect();
    bears(&balancer, &greedy, |path| {
        let response = fetch(http, &format!("/{path}"));
        if response.code == 200 { "OK".to_owned() } else { response.text().to_owned() }
    });
}

/// A control group whose processes may use 128 MiB together; `None` where the tests may not make one.
struct Group(PathBuf);

impl Group {
    fn make() -> Option<Self> {
        let kinds = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        kinds.into_iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(format!("dproxy-test-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), (128 * MIB).to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel may need a moment to notice that the last process has ended.
        until("the group can be removed", || !self.0.exists() || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_balancer_in_a_container_of_128_mib_survives_clients_that_read_nothing() {
    let _alone = heavy();
    let Some(group) = Group::make() else { return };
    let data = whole_mib();
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "--fetch-deadline 20s --max-bytes 40MiB").run();
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let mut balancer = Start::balancer(&[proxy.address], "--try-deadline 25s").shell(&enter, "").run();
    until("it says what it chose", || {
        balancer.log().contains("--max-unread is 16 MiB by default, of 128 MiB")
    });
    bears_many(&balancer, 16, 128, 1);
    assert!(balancer.is_running());
}
