//! How nodes start under shells, service managers and files as people write them.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;

use crate::support::command::{BINARY, clean, dproxy, has_command, make_fifo, text};
use crate::support::http::fetch;
use crate::support::node::lines_of;
use crate::support::{Address, Data, PATIENCE, Start, TempDir, ask, eventually, get, status_of, until};

#[test]
fn no_signal_that_people_send_ends_a_node() {
    let data = Data::articles(1);
    let mut origin = Start::origin(data.path(), "").run();
    for signal in ["HUP", "USR1", "USR2", "HUP", "HUP"] {
        origin.signal(signal);
        assert_eq!(get(origin.address, "article/1")["status"], "OK", "{signal}");
    }
    until("it says that there is nothing to read anew", || origin.log().contains("SIGHUP"));
    assert!(origin.is_running());
    assert_eq!(origin.log().matches("SIGHUP").count(), 1, "once");
}

#[test]
fn a_signal_while_the_settings_are_read_ends_no_node() {
    let data = Data::articles(1);
    let files = TempDir::new();
    let settings = files.path().join("settings");
    make_fifo(&settings);
    let mut origin =
        Start::origin(data.path(), "").arg("--config").arg(settings.to_str().expect("text")).spawn();
    // Opened once the node reads.
    let mut written = fs::OpenOptions::new().write(true).open(&settings).expect("a reader");
    for signal in ["HUP", "USR1", "USR2"] {
        origin.signal(signal);
    }
    written.write_all(b"[log]\nlog = \"info\"\n").expect("a reader");
    drop(written);
    origin.address = origin.listens().1;
    assert_eq!(get(origin.address, "article/1")["status"], "OK");
}

#[test]
fn a_state_directory_that_keeps_nothing_is_refused() {
    let files = TempDir::new();
    let file = files.path().join("file");
    fs::write(&file, "").expect("a file");
    for directory in [file.clone(), file.join("beneath")] {
        let output = dproxy(&["lb", "--port", "0", "--state-dir", directory.to_str().expect("text")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let complaints: Vec<&str> = said.lines().filter(|line| line.starts_with("dproxy: ")).collect();
        assert!(complaints.len() == 1 && complaints[0].contains("--state-dir"), "{said}");
    }
}

#[test]
fn an_access_log_that_cannot_be_opened_is_named_as_it_was_given() {
    let output = dproxy(&["lb", "--port", "0", "--access-log", "/proc/none"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("access log \"/proc/none\";"), "{said}");
}

#[test]
fn localhost_is_both_loopbacks() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "--host localhost").run();
    for host in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let address = Address((host, origin.port()).into());
        assert_eq!(get(address, "article/1")["status"], "OK", "{host}");
    }
}

#[test]
fn lists_may_have_spaces_and_a_last_comma() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let list = format!("{}, [::ffff:127.0.0.1]:{} ,", proxy.address, 1);
    let balancer = Start::role("lb", "--port 0").arg("--proxies").arg(&list);
    let balancer = balancer.arg("--admin-from").arg("127.0.0.0/8, ::1,").run();
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    let metrics = balancer.metrics();
    let named: Vec<&String> = metrics["proxies"].as_object().expect("proxies").keys().collect();
    assert!(named.contains(&&"127.0.0.1:1".to_owned()) && named.len() == 2, "{named:?}");
    for (words, why) in [
        (&["lb", "--admin-from", "10.9.9.9/0"][..], "0.0.0.0/0"),
        (&["lb", "--proxies", "a:1", "--proxies-file", "x"], "--proxies-file"),
    ] {
        let output = dproxy(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}

#[test]
fn files_may_begin_with_a_byte_order_mark() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let files = TempDir::new();
    let (settings, proxies) = (files.path().join("settings.toml"), files.path().join("proxies"));
    fs::write(&proxies, format!("\u{feff}{}\n", proxy.address)).expect("a file");
    fs::write(&settings, format!("\u{feff}[lb]\nproxies-file = {proxies:?}\n")).expect("a file");
    let balancer = Start::role("lb", "--port 0").arg("--config").arg(settings.to_str().expect("text")).run();
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
}

/// Hands sockets over as systemd does: as descriptors from 3 on, with names.
const HAND_OVER: &str = "
import os, socket, sys
names, words = sys.argv[1].split(','), sys.argv[2:]
sockets = []
for name in names:
    listener = socket.create_server(('127.0.0.1', 0))
    sockets.append(listener)
    print(listener.getsockname()[1], flush=True)
for index, fd in enumerate([os.dup2(held.fileno(), 40 + index) for index, held in enumerate(sockets)]):
    os.dup2(fd, 3 + index)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=':'.join(names))
os.execv(words[0], words)
";

/// A node on sockets of these names, and the ports of the sockets.
fn handed_over(names: &str, words: &[&str]) -> (Child, Receiver<String>) {
    let mut python = clean("python3");
    python.args(["-c", HAND_OVER, names, BINARY]).args(words);
    let mut node = python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3 starts");
    let printed = lines_of(node.stdout.take().expect("its standard output"));
    (node, printed)
}

#[test]
fn sockets_of_systemd_are_served_by_name_and_none_is_left() {
    if !has_command("python3", "python3") {
        return;
    }
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let port = origin.port().to_string();
    let host = origin.address.host();
    let words = ["proxy", "--port", "0", "--origin-host", &host, "--origin-port", &port];
    let (mut node, printed) = handed_over("http,line,line", &words);
    let next = || printed.recv_timeout(PATIENCE).expect("a port").parse().expect("a number");
    let [http, first, second] = [(); 3].map(|()| Address::loopback(next()));
    for line in [first, second] {
        assert_eq!(status_of(&ask(line, "GET article/1")), "OK");
    }
    assert_eq!(fetch(http, "/article/1").code, 200);
    node.kill().expect("the node is there");
    node.wait().expect("its end");
    let (mut node, _printed) = handed_over("other.socket,line", &words);
    let status = eventually("it refuses to start", || node.try_wait().expect("a status"));
    let mut said = String::new();
    node.stderr.take().expect("its errors").read_to_string(&mut said).expect("text");
    assert!(
        !status.success() && said.contains("other.socket") && said.contains("FileDescriptorName"),
        "{said}"
    );
}
