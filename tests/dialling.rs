//! Connecting: queues that are short, addresses that are silent, names that move, and what a node itself lacks.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::ask::parse;
use crate::support::command::{BINARY, clean, run_to_end, text};
use crate::support::fake::{Gate, Hello, answer_soundly};
use crate::support::node::own_host;
use crate::support::{
    Address, Data, Fake, Session, Start, TempDir, at_once, get, heavy, pause, status_of, timed, until,
};

/// A listener whose queue is as short as this.
fn listen(address: SocketAddr, queue: i32) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a reusable address");
    socket.bind(&address.into()).expect("a free port");
    socket.listen(queue).expect("a listener");
    socket.into()
}

/// An origin as people write it with Python's socketserver: a queue of 5, one connection at a time, no sessions.
fn socketserver() -> Address {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), 5);
    let address = Address(listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // The time that one connection takes: far longer than 16 clients take to connect.
            pause(Duration::from_millis(2));
            serve(stream);
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let mut line = String::new();
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return;
    }
    let reply = match line.trim_end().strip_prefix("GET ") {
        Some(path) => format!("{{\"status\": \"OK\", \"data\": {{\"path\": \"{path}\"}}}}\n"),
        None => "{\"status\": \"WRONG_METHOD\", \"data\": null}\n".to_owned(),
    };
    let _ = stream.write_all(reply.as_bytes());
}

/// A listener that is silent: its queue is full, and it accepts nothing.
struct Silent {
    _listener: TcpListener,
    _queued: Vec<Socket>,
}

impl Silent {
    fn at(address: SocketAddr) -> Self {
        let listener = listen(address, 0);
        let connect = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
            socket.set_nonblocking(true).expect("a socket that does not block");
            // EINPROGRESS.
            let _ = socket.connect(&address.into());
            socket
        };
        let _queued = (0..3).map(|_| connect()).collect();
        until("its queue is full", || {
            TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err()
        });
        Self { _listener: listener, _queued }
    }
}

/// Names of a test. Nodes that run by [`Hosts::binary`] resolve them, and nothing else of the machine does.
struct Hosts(TempDir);

impl Hosts {
    /// `None` where a user may not mount in a namespace of their own.
    fn new() -> Option<Self> {
        let may = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
        if !may {
            return None;
        }
        let hosts = Self(TempDir::new());
        fs::write(hosts.file(), "").expect("a file of hosts");
        let script = format!(
            "#!/bin/sh\nexec unshare -rm sh -c 'mount --bind {} /etc/hosts && exec \"$0\" \"$@\"' {BINARY} \"$@\"\n",
            hosts.file().display()
        );
        fs::write(hosts.script(), script).expect("a script");
        fs::set_permissions(hosts.script(), fs::Permissions::from_mode(0o755)).expect("an executable script");
        Some(hosts)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("hosts")
    }

    fn script(&self) -> PathBuf {
        self.0.path().join("dproxy")
    }

    fn binary(&self) -> String {
        self.script().to_str().expect("UTF-8").to_owned()
    }

    /// From now on the name has these addresses.
    fn set(&self, name: &str, addresses: &[Ipv4Addr]) {
        let lines: String = addresses.iter().map(|address| format!("{address} {name}\n")).collect();
        // In place: what is mounted is this file and no other one of its name.
        fs::write(self.file(), lines).expect("a file of hosts");
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = clean(&self.binary());
        command.args(words);
        run_to_end(command, b"")
    }
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn sound_peer(at: Ipv4Addr, port: u16) -> Fake {
    Fake::start_on(Address((at, port).into()), Hello::Granted, answer_soundly)
}

#[test]
fn a_burst_of_misses_does_not_overflow_the_queue_of_a_plain_origin() {
    let _alone = heavy();
    let origin = socketserver();
    let proxy = Start::proxy(origin, "").run();
    let replies = at_once((0..16).collect(), |i| get(proxy.address, &format!("cold/{i}")));
    let bad: Vec<Value> = replies.into_iter().filter(|reply| reply["status"] != "OK").collect();
    assert!(bad.is_empty(), "{} of 16 failed: {bad:?}", bad.len());
    assert_eq!(get(proxy.address, "another/1")["status"], "OK");
    assert!(!proxy.log().contains("the origin fails"), "{}", proxy.log());
}

#[test]
fn a_client_gets_many_keys_of_a_node_with_a_short_queue() {
    let _alone = heavy();
    let port = socketserver().port().to_string();
    let scratch = TempDir::new();
    let keys = scratch.path().join("keys");
    fs::write(&keys, (0..200).map(|i| format!("article/{i}\n")).collect::<String>()).expect("keys");
    let paths: Vec<String> = (0..16).map(|i| format!("article/{i}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let client = ["client", "--port", &port];
    for words in [
        [&client[..], &["--get"], &paths].concat(),
        [&client[..], &["--keys", keys.to_str().expect("UTF-8")]].concat(),
    ] {
        let mut command = clean(BINARY);
        command.args(&words);
        let output = run_to_end(command, b"");
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    }
}

#[test]
fn a_plain_load_does_not_overflow_the_queue_of_a_node() {
    let _alone = heavy();
    let port = socketserver().port().to_string();
    let mut command = clean(BINARY);
    let words = "--plain --connections 32 --requests 400 --key-range article/1..50 --output json";
    command.args(["bench", "--port", &port]).args(words.split(' '));
    let output = run_to_end(command, b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(parse(text(&output.stdout).trim_end())["errors"], 0);
}

#[test]
fn a_silent_address_of_a_name_does_not_hide_a_good_one() {
    let Some(hosts) = Hosts::new() else { return };
    for (silent, good) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let peer = sound_peer(good, 0);
        let port = peer.address.port();
        let _silent = Silent::at((silent, port).into());
        hosts.set("peer.test", &[FIRST, SECOND]);
        let start = Start::role("proxy", &format!("--origin-host peer.test --origin-port {port}"));
        let proxy = start.binary(&hosts.binary()).run();
        for i in 0..20 {
            let (took, reply) = timed(|| get(proxy.address, &format!("a/{i}")));
            assert_eq!(reply["status"], "OK", "{reply}");
            assert!(took < Duration::from_millis(1_400), "a request took {took:?}");
        }
        let port = port.to_string();
        let at = ["--host", "peer.test", "--port", &port];
        let client = hosts.run(&[&["client"], &at[..], &["--get", "a/1"]].concat());
        assert_eq!(client.status.code(), Some(0), "{client:?}");
        let load = ["--requests", "20", "--key-range", "a/1..5"];
        let bench = hosts.run(&[&["bench"], &at[..], &load].concat());
        assert_eq!(bench.status.code(), Some(0), "{bench:?}");
    }
}

#[test]
fn a_proxy_follows_the_name_of_its_origin() {
    let Some(hosts) = Hosts::new() else { return };
    let gate = Gate::default();
    let opened = gate.clone();
    let before = Fake::start_on(Address((FIRST, 0).into()), Hello::Granted, move |asked| {
        let gate = gate.clone();
        asked.answer_soundly_after(move || gate.wait());
    });
    let port = before.address.port();
    let after = sound_peer(SECOND, port);
    hosts.set("origin.test", &[FIRST]);
    let words = format!(
        "--origin-host origin.test --origin-port {port} --resolve-interval 100ms --fetch-deadline 20s"
    );
    let proxy = Start::role("proxy", &words).binary(&hosts.binary()).run();
    let address = proxy.address;
    let waits = thread::spawn(move || get(address, "kept/1"));
    until("the first address is asked", || before.requests().contains(&"GET kept/1".to_owned()));
    hosts.set("origin.test", &[SECOND]);
    until("the session to the first address ends", || proxy.log().contains("the name has lost this address"));
    for i in 0..5 {
        assert_eq!(get(proxy.address, &format!("new/{i}"))["status"], "OK");
    }
    assert_eq!(after.requests().len(), 5, "all go to the second address");
    opened.open();
    let reply = waits.join().expect("a reply");
    assert_eq!(reply["status"], "OK", "a request in flight is still answered: {reply}");
    assert_eq!(before.requests(), ["GET kept/1"]);
}

/// A balancer without sessions that passes every line on, as the oldest do, and closes.
fn passes_everything_on(to: Address) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address(listener.local_addr().expect("its address"));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let mut behind = to.connect().expect("the node behind it");
                let _ = behind.write_all(line.as_bytes());
                let mut reply = String::new();
                let _ = BufReader::new(&behind).read_line(&mut reply);
                let _ = stream.write_all(reply.as_bytes());
            });
        }
    });
    address
}

#[test]
fn a_balancer_that_passes_hello_on_is_asked_plainly() {
    let data = Data::articles(20);
    let origin = Start::origin(data.path(), "").run();
    let behind = Start::proxy(origin.address, "").run();
    let older = passes_everything_on(behind.address);
    let port = older.port().to_string();
    let mut command = clean(BINARY);
    command.args(["client", "--port", &port, "--get", "article/1", "article/2", "article/3"]);
    let output = run_to_end(command, b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for node in [Start::proxy(older, "").run(), Start::balancer(&[older], "").run()] {
        let replies = at_once((1..=20).collect(), |i| get(node.address, &format!("article/{i}")));
        assert!(replies.iter().all(|reply| reply["status"] == "OK"), "{replies:?}");
        assert!(!node.log().contains("fails") && !node.log().contains("is down"), "{}", node.log());
    }
    let mut command = clean(BINARY);
    command.args(["bench", "--port", &port, "--requests", "10"]);
    let output = run_to_end(command, b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("64 connections at once, one for each request"), "{output:?}");
}

#[test]
fn a_session_goes_on_while_the_node_has_no_descriptors_left() {
    let _alone = heavy();
    let data = Data::articles(40);
    let origin = Start::origin(data.path(), "").run();
    let behind = Start::proxy(origin.address, "").run();
    let start = Start::balancer(&[behind.address], "--threads 2 --health-interval 100ms --log info");
    let balancer = start.run();
    let mut sessions: Vec<Session> = (0..12).map(|_| Session::open(balancer.address)).collect();
    assert_eq!(status_of(&sessions[0].ask(0, "GET article/1")), "OK");
    // As many as it has now: by itself it leaves some to its links, however many clients there are.
    let limit = format!("--nofile={0}:{0}", balancer.descriptors());
    let set = Command::new("prlimit").args(["--pid", &balancer.pid().to_string(), &limit]).status();
    assert!(set.expect("the prlimit command").success());
    let mut rest = Vec::new();
    until("it has no descriptors left", || {
        rest.push(balancer.address.connect().expect("a connection"));
        balancer.log().contains("cannot accept connections")
    });
    for (i, session) in sessions.iter_mut().enumerate() {
        let reply = session.ask(1, &format!("GET article/{}", i + 1));
        assert_eq!(status_of(&reply), "OK", "on the session that there is: {reply}");
    }
    assert!(!balancer.log().contains("is down"), "{}", balancer.log());
}

#[test]
fn a_silent_peer_is_out_of_reach_before_the_request_is_late() {
    let address: SocketAddr = (own_host(), 0).into();
    let free = TcpListener::bind(address).and_then(|listener| listener.local_addr()).expect("a free port");
    let _silent = Silent::at(free);
    let proxy = Start::proxy(Address(free), "--fetch-deadline 1s").run();
    let reply = get(proxy.address, "a/1");
    assert_eq!(
        (&reply["status"], &reply["data"]),
        (&"ORIGIN_FAILURE".into(), &"the origin cannot be reached".into())
    );
}
