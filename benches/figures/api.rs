//! A proxy before an API that nginx plays, beside nginx's own cache: misses in a second, and what an unchanged document costs.
//! Left out where nginx is not installed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ask::median;
use super::large::{Form, ask, free_port, temporary, written};
use super::node::{Documents, Node, api_proxy};

const ROUNDS: usize = 3;
const DOCUMENTS: usize = 10_000;
const CLIENTS: usize = 16;

pub(crate) async fn api() {
    let files = Documents::write(DOCUMENTS);
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let source = at(free_port());
    let Some(_source) = Node::foreign(&mut origin(files.path(), source), source).await else {
        return println!("left out: nginx does not start");
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let http = free_port();
        let _proxy = start(source, http, "--ttl 1h");
        ours.push(each_once(at(http)).await);
        let address = at(free_port());
        let cache = Node::foreign(
            &mut cache(files.path(), address, source, ("~ ^/([a-z]+)/([0-9]+)$", "/$1$2.json")),
            address,
        )
        .await;
        let _cache = cache.expect("nginx starts");
        theirs.push(each_once(address).await);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("\nMisses in a second, {CLIENTS} clients, {DOCUMENTS} documents of 1 kB");
    println!("   dproxy {ours:>7.0}   nginx proxy_cache {theirs:>7.0}   {:.2} times", ours / theirs);

    let http = free_port();
    let _proxy = start(source, http, "--ttl 1ms --ttl-jitter 0");
    each_once(at(http)).await;
    fs::write(sizes(files.path()), "").expect("an empty log");
    each_once(at(http)).await;
    let log = fs::read_to_string(sizes(files.path())).expect("a log");
    let unchanged = log.lines().filter_map(|line| line.strip_prefix("304 "));
    let bytes: Vec<f64> = unchanged.filter_map(|bytes| bytes.parse().ok()).collect();
    let each = bytes.iter().sum::<f64>() / bytes.len() as f64;
    println!(
        "All expired and unchanged: {} of {} answers are 304, {each:.0} bytes each",
        bytes.len(),
        log.lines().count()
    );
}

/// A proxy before the API.
fn start(source: SocketAddr, http: u16, words: &str) -> Node {
    let url = format!("http://{source}/{{resource}}{{key}}.json");
    api_proxy(&url, &format!("--capacity 20000 --max-fetches {CLIENTS} --http-port {http} {words}"))
}

/// Asks for every document once, from all clients; returns the documents in a second.
async fn each_once(of: SocketAddr) -> f64 {
    let (next, began) = (Arc::new(AtomicUsize::new(1)), Instant::now());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let next = next.clone();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(of).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                if id > DOCUMENTS {
                    return;
                }
                let request = format!("GET /article/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
                assert!(ask(&mut stream, Form::Http, request.as_bytes()).await > 1000, "a document");
            }
        });
    }
    clients.join_all().await;
    DOCUMENTS as f64 / began.elapsed().as_secs_f64()
}

/// The log of the API: status and bytes of each answer.
fn sizes(files: &Path) -> std::path::PathBuf {
    files.join("sizes.log")
}

/// nginx over the files of the documents.
fn origin(files: &Path, address: SocketAddr) -> Command {
    let server = format!("root {}; access_log {} sizes;", files.display(), sizes(files).display());
    nginx(files, address, "log_format sizes \"$status $bytes_sent\";", &server)
}

/// nginx's cache before the API; `documents` is the location of these and where each of them is at the API.
pub(crate) fn cache(
    files: &Path,
    address: SocketAddr,
    source: SocketAddr,
    documents: (&str, &str),
) -> Command {
    let directory = files.join(format!("cache-{}", address.port()));
    let http = format!(
        "proxy_cache_path {} keys_zone=documents:16m;\nupstream api {{ server {source}; keepalive 64; }}\n\
         access_log off;\n",
        directory.display()
    );
    let (location, target) = documents;
    let server = format!(
        "location {location} {{ proxy_pass http://api{target}; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_cache documents; proxy_cache_valid 200 1h; }}"
    );
    nginx(files, address, &http, &server)
}

/// One process of nginx with these lines in `http` and in its only `server`.
pub(crate) fn nginx(files: &Path, address: SocketAddr, http: &str, server: &str) -> Command {
    let port = address.port();
    let config = format!(
        "daemon off; master_process off; pid {files}/api-{port}.pid; error_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ tcp_nodelay on; keepalive_requests 100000000;\n{temporary}{http}\n\
         server {{ listen {address}; {server} }} }}\n",
        files = files.display(),
        temporary = temporary(files, port)
    );
    let mut command = Command::new("nginx");
    command.args(["-p".as_ref(), files, "-c".as_ref(), &written(files, &format!("api-{port}"), &config)]);
    command
}
