//! A new process takes over a port under load, by SO_REUSEPORT or systemd's socket, without a lost request.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use crate::support::command::{BINARY, Background, clean, dproxy, signal, text};
use crate::support::load::Load;
use crate::support::{Address, Data, Node, PATIENCE, Start, TempDir, eventually, get, heavy, until};

/// The number of handovers in a test.
const TIMES: usize = 5;

/// Starts the same node again on its port, then stops the old process.
fn replace(node: &mut Node, start: impl Fn(&str) -> Start) {
    let next = start(&format!("--reuse-port --drain 10s --port {}", node.port())).run();
    assert_eq!(next.address, node.address);
    node.signal("TERM");
    assert!(node.ended().success(), "{}", node.log());
    *node = next;
}

#[test]
fn a_new_process_takes_the_port_over_under_load() {
    let _alone = heavy();
    let data = Data::articles(50);
    let origin = Start::origin(data.path(), "").run();
    let start = |words: &str| Start::proxy(origin.address, words);
    let mut proxy = start("--reuse-port").run();
    let load = Load::plain(proxy.address, 50);
    for _ in 0..TIMES {
        load.go_on(300);
        replace(&mut proxy, start);
    }
    load.go_on(300);
    let (asked, _) = load.end_without_errors();
    assert!(asked > 1500, "{asked}");
    assert_eq!(proxy.log().matches("WARN").count(), 0, "{}", proxy.log());
}

#[test]
fn the_http_port_is_taken_over_as_well() {
    let _alone = heavy();
    let data = Data::articles(50);
    let origin = Start::origin(data.path(), "").run();
    let start = |words: &str| Start::proxy(origin.address, words);
    let mut proxy = start("--reuse-port --http-port 0").run();
    let http = proxy.serves_http();
    let loads = [&[][..], &["connection: close"]].map(|headers| Load::http(http, 50, headers));
    let go_on = || loads.iter().for_each(|load| load.go_on(150));
    for _ in 0..TIMES {
        go_on();
        replace(&mut proxy, |words| start(&format!("{words} --http-port {}", http.port())));
        assert_eq!(proxy.serves_http(), http);
    }
    go_on();
    for load in loads {
        load.end_without_errors();
    }
    assert_eq!(proxy.log().matches("WARN").count(), 0, "{}", proxy.log());
}

#[test]
fn the_only_proxy_of_a_balancer_is_replaced_under_load() {
    let _alone = heavy();
    let data = Data::articles(50);
    let origin = Start::origin(data.path(), "").run();
    let start = |words: &str| Start::proxy(origin.address, words);
    let mut proxy = start("--reuse-port").run();
    let balancer = Start::balancer(&[proxy.address], "").run();
    let load = Load::plain(balancer.address, 50);
    for _ in 0..TIMES {
        load.go_on(300);
        replace(&mut proxy, start);
    }
    load.go_on(300);
    load.end_without_errors();
    assert!(balancer.holds_healthy(proxy.address));
}

#[test]
fn a_port_is_not_shared_without_the_flag() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "--reuse-port").run();
    let (port, path) = (origin.port().to_string(), data.path().to_str().expect("UTF-8"));
    let output = dproxy(&["origin", "--port", &port, "--data", path]);
    assert!(!output.status.success() && text(&output.stderr).contains("in use"));
}

/// A node as systemd starts it: the unit's socket as descriptor 3, a socket for notifications, and a watchdog.
struct Unit {
    child: Background,
    notices: UnixDatagram,
    _directory: TempDir,
}

impl Unit {
    /// bash does what systemd does: it sets LISTEN_PID to the process itself.
    fn start(listener: &TcpListener, words: &[&str]) -> Self {
        use std::os::fd::AsFd;
        let directory = TempDir::new();
        let path = directory.path().join("notify");
        let notices = UnixDatagram::bind(&path).expect("a socket for notices");
        notices.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut command = clean("bash");
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
        command.args(["-c", script, BINARY]).args(words);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
        let socket = listener.as_fd().try_clone_to_owned().expect("the socket once more");
        let child = command.stdin(socket).stdout(Stdio::null()).spawn().expect("a unit");
        Self { child: Background(child), notices, _directory: directory }
    }

    /// The next notification; those of the watchdog only on request.
    fn hears(&self, wanted: &str) {
        let mut buffer = [0; 256];
        for _ in 0..1000 {
            let n = self.notices.recv(&mut buffer).expect("a notice");
            let notice = String::from_utf8_lossy(&buffer[..n]).into_owned();
            // A reload says when it began as well.
            if notice.lines().next() == Some(wanted) {
                return;
            }
            let earlier = ["WATCHDOG=1", "READY=1"];
            assert!(earlier.contains(&notice.trim()), "{notice} before {wanted}");
        }
        panic!("no {wanted} in 1000 notices");
    }

    fn ends(&mut self) {
        let status = eventually("the unit ends", || self.child.0.try_wait().expect("its state"));
        assert!(status.success());
    }
}

#[test]
fn systemd_is_notified_and_the_socket_outlives_the_node() {
    let _alone = heavy();
    let data = Data::articles(50);
    let words = ["origin", "--port", "1", "--data", data.path().to_str().expect("UTF-8")];
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address(listener.local_addr().expect("its address"));
    let mut unit = Unit::start(&listener, &words);
    unit.hears("READY=1");
    unit.hears("WATCHDOG=1");
    assert_eq!(get(address, "article/1")["status"], "OK");
    // A unit of Type=notify-reload would wait for both without an end.
    signal(unit.child.0.id(), "HUP");
    unit.hears("RELOADING=1");
    unit.hears("READY=1");

    let load = Load::plain(address, 50);
    for _ in 0..3 {
        load.go_on(200);
        signal(unit.child.0.id(), "TERM");
        unit.hears("STOPPING=1");
        unit.ends();
        // As with systemd, no process serves for a moment: clients wait in the queue of the socket.
        unit = Unit::start(&listener, &words);
        unit.hears("READY=1");
    }
    load.go_on(200);
    load.end_without_errors();
}

#[test]
fn a_node_that_hangs_does_not_feed_the_watchdog() {
    let data = Data::articles(1);
    let words = ["origin", "--data", data.path().to_str().expect("UTF-8")];
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let unit = Unit::start(&listener, &words);
    unit.hears("WATCHDOG=1");
    // One serving thread stops: the others alone do not feed the watchdog.
    let tasks = format!("/proc/{}/task", unit.child.0.id());
    let threads = std::fs::read_dir(tasks).expect("its threads").count();
    assert!(threads > 1, "{threads}");
    signal(unit.child.0.id(), "STOP");
    unit.notices.set_nonblocking(true).expect("a socket");
    until("the notices end", || {
        let mut buffer = [0; 256];
        let mut heard = 0;
        while unit.notices.recv(&mut buffer).is_ok() {
            heard += 1;
        }
        crate::support::pause(std::time::Duration::from_millis(300));
        heard == 0 && unit.notices.recv(&mut buffer).is_err()
    });
    signal(unit.child.0.id(), "CONT");
    until("they go on", || unit.notices.recv(&mut [0; 256]).is_ok());
}
