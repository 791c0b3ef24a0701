//! A balancer with large documents, beside nginx and haproxy over the same proxies: its processor time for each megabyte
//! that it relays. Whichever of the two is not installed is left out.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ask::median;
use super::made::{Made, Origin};
use super::node::{Documents, Node, balancer, proxy};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
/// Bytes of a document; two are just below and at a mebibyte, which many buffers are made for.
const SIZES: [usize; 7] = [100_000, 500_000, 1_048_400, 1 << 20, 2 << 20, 4 << 20, 8 << 20];
const CLIENTS: usize = 8;
/// Addresses of the one proxy.
const PROXIES: u8 = 3;

/// How a request and its reply look.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Session,
    Http,
}

/// A balancer and its clients.
struct Tested {
    name: &'static str,
    form: Form,
    node: Node,
    clients: Vec<TcpStream>,
}

/// The balancers of one size, and what stands behind them.
struct Row {
    size: usize,
    tested: Vec<Tested>,
    _behind: (Origin, Node),
}

pub(crate) async fn large() {
    let files = Documents::write(0);
    println!("\nProcessor time for a megabyte in µs, {CLIENTS} clients with one request in flight");
    let mut first: Vec<f64> = Vec::new();
    for size in SIZES {
        // One size at a time: chunks that are not used for a second are freed.
        let tested = Row::start(size, files.path()).await.rounds().await;
        if first.is_empty() {
            first = tested.iter().map(|(_, cpu_us)| *cpu_us).collect();
        }
        print!("{size:>8} B");
        for ((name, cpu_us), first) in tested.into_iter().zip(&first) {
            print!("   {name} {cpu_us:>6.0} ({:.2})", cpu_us / first);
        }
        println!();
    }
}

impl Row {
    async fn start(size: usize, files: &Path) -> Self {
        let (origin, http) = (Made::of(size).start(), free_port());
        let words = format!("--host 0.0.0.0 --http-port {http} --ttl 10m --max-document 16MiB");
        let proxy = proxy(origin.address, 0, &words);
        let at = |port: u16| (1..=PROXIES).map(move |nth| SocketAddr::from(([127, 0, 0, nth], port)));
        let listed: Vec<SocketAddr> = at(proxy.address.port()).collect();
        let mut tested =
            vec![Tested::new("dproxy", Form::Session, balancer(&listed, "--max-document 16MiB")).await];
        for (name, start) in [("nginx", nginx as Start), ("haproxy", haproxy)] {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let listed: Vec<String> = at(http).map(|proxy| proxy.to_string()).collect();
            match Node::foreign(&mut start(files, address, &listed), address).await {
                Some(node) => tested.push(Tested::new(name, Form::Http, node).await),
                None => println!("{name} is left out: it does not start"),
            }
        }
        Self { size, tested, _behind: (origin, proxy) }
    }

    /// The balancers' medians of some rounds in turns, in microseconds of processor time per megabyte.
    async fn rounds(mut self) -> Vec<(&'static str, f64)> {
        let mut cpu_us = vec![Vec::new(); self.tested.len()];
        // The first round fills caches and connections.
        for round in 0..=ROUNDS {
            for (one, cpu_us) in self.tested.iter_mut().zip(&mut cpu_us) {
                let in_round = one.round(self.size).await;
                cpu_us.extend((round > 0).then_some(in_round));
            }
        }
        self.tested.iter().zip(cpu_us).map(|(one, cpu_us)| (one.name, median(cpu_us))).collect()
    }
}

impl Tested {
    async fn new(name: &'static str, form: Form, node: Node) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut stream = TcpStream::connect(node.address).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            if let Form::Session = form {
                ask(&mut stream, form, b"HELLO 2\n").await;
            }
            clients.push(stream);
        }
        Self { name, form, node, clients }
    }

    /// Sends requests for this time; returns the processor time per megabyte of documents.
    async fn round(&mut self, size: usize) -> f64 {
        let (began, before, form) = (Instant::now(), self.node.cpu(), self.form);
        let mut clients = JoinSet::new();
        for mut stream in self.clients.drain(..) {
            clients.spawn(async move {
                let mut answered = 0;
                while began.elapsed() < ROUND || answered == 0 {
                    let request: &[u8] = match form {
                        Form::Session => b"1 GET article/1\n",
                        Form::Http => b"GET /article/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                    };
                    let length = ask(&mut stream, form, request).await;
                    assert!(length > size, "a document");
                    answered += 1;
                }
                (stream, answered)
            });
        }
        let mut answered = 0;
        for (stream, those) in clients.join_all().await {
            self.clients.push(stream);
            answered += those;
        }
        let (cpu_us, _) = self.node.cpu().since(before, f64::from(answered));
        cpu_us * 1e6 / size as f64
    }
}

/// Sends a request and reads the whole reply; returns its length.
pub(crate) async fn ask(stream: &mut TcpStream, form: Form, request: &[u8]) -> usize {
    stream.write_all(request).await.expect("a node that reads");
    let (mut buffer, mut length, mut expected) = (vec![0; 256 * 1024], 0, None);
    loop {
        let n = stream.read(&mut buffer).await.expect("bytes");
        assert!(n > 0, "a reply has an end");
        length += n;
        let is_whole = match form {
            Form::Session => buffer[n - 1] == b'\n',
            // The head comes in one piece, from a server on this machine.
            Form::Http => *expected.get_or_insert_with(|| whole_length(&buffer[..n])) == length,
        };
        if is_whole {
            return length;
        }
    }
}

/// The length of an HTTP response, of which this is the beginning.
fn whole_length(begin: &[u8]) -> usize {
    let head = memmem::find(begin, b"\r\n\r\n").expect("a head") + 4;
    let text = String::from_utf8_lossy(&begin[..head]).to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    head + body.and_then(|length| length.trim().parse::<usize>().ok()).expect("a length")
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

type Start = fn(&Path, SocketAddr, &[String]) -> Command;

/// Where nginx on this port keeps its temporary files.
pub(crate) fn temporary(files: &Path, port: u16) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {}/nginx-{port}-{of};\n", files.display()))
        .concat()
}

/// One process, so that its processor time is all of it.
pub(crate) fn nginx(files: &Path, address: SocketAddr, proxies: &[String]) -> Command {
    let port = address.port();
    let temporary = temporary(files, port);
    let servers: String = proxies.iter().map(|proxy| format!("server {proxy};")).collect();
    let config = format!(
        "daemon off; master_process off; pid {files}/nginx-{port}.pid; error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; tcp_nodelay on; keepalive_requests 100000000;\n{temporary}\
         upstream proxies {{ {servers} keepalive 64; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://proxies; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; }} }} }}\n",
        files = files.display()
    );
    let mut command = Command::new("nginx");
    command.args(["-p".as_ref(), files, "-c".as_ref(), &written(files, &format!("nginx-{port}"), &config)]);
    command
}

pub(crate) fn haproxy(files: &Path, address: SocketAddr, proxies: &[String]) -> Command {
    let servers: String =
        proxies.iter().map(|proxy| format!("  server {} {proxy}\n", proxy.replace(':', "-"))).collect();
    let config = format!(
        "global\n  nbthread 2\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 1m\n  timeout server 1m\n  \
         http-reuse always\nfrontend clients\n  bind {address}\n  default_backend proxies\nbackend proxies\n  \
         balance leastconn\n{servers}"
    );
    let mut command = Command::new("haproxy");
    command.args([
        "-db".as_ref(),
        "-f".as_ref(),
        written(files, &format!("haproxy-{}", address.port()), &config).as_path(),
    ]);
    command
}

pub(crate) fn written(files: &Path, name: &str, config: &str) -> std::path::PathBuf {
    let path = files.join(format!("{name}.conf"));
    fs::write(&path, config).expect("a file");
    path
}
