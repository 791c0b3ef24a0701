//! Requests in a second to a proxy and a balancer, beside nginx, haproxy and varnish with the same documents and the same load, in
//! turns. Whichever of these is not installed is left out. Prints a table in Markdown.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::api::{cache, nginx as nginx_with};
use super::ask::{bench, median};
use super::large::{free_port, haproxy, nginx};
use super::node::{Documents, Node, balancer, origin, proxy};

const ROUNDS: usize = 3;
const DOCUMENTS: usize = 10_000;
const LOAD: &str =
    "--connections 64 --key-range article/1..10000 --zipf 1.0 --duration 1500ms --warmup 500ms";
const PROXIES: usize = 3;

/// A way to ask: its name, requests in flight on a connection, and the flags of `dproxy bench`.
type Way = (&'static str, usize, &'static str);

const OVER_LINES: [Way; 3] = [
    ("a connection a request", 1, "--plain"),
    ("session", 1, "--in-flight 1"),
    ("session", 16, "--in-flight 16"),
];
const OVER_HTTP: [Way; 2] =
    [("a connection a request (HTTP)", 1, "--http --plain"), ("kept alive (HTTP)", 1, "--http")];

/// A server at an address for each of its protocols.
struct Tested {
    name: &'static str,
    lines: Option<SocketAddr>,
    http: SocketAddr,
    _nodes: Vec<Node>,
}

pub(crate) async fn speed() {
    let files = Documents::write(DOCUMENTS);
    let source = at(free_port());
    let api = Node::foreign(&mut files_of(files.path(), source), source).await;
    let mut tested = match api {
        Some(_) => others(files.path(), source).await,
        None => Vec::new(),
    };
    tested.extend(ours(files.path()));
    let ways = |one: &Tested| {
        let lines = one.lines.into_iter().flat_map(|address| OVER_LINES.map(|way| (address, way)));
        let all: Vec<(SocketAddr, Way)> = lines.chain(OVER_HTTP.map(|way| (one.http, way))).collect();
        all
    };
    let rows: Vec<(&str, SocketAddr, Way)> =
        tested.iter().flat_map(|one| ways(one).into_iter().map(|(at, way)| (one.name, at, way))).collect();
    let mut found = vec![Vec::new(); rows.len()];
    // The first round fills the caches.
    for round in 0..=ROUNDS {
        for ((name, address, (way, _, flags)), found) in rows.iter().zip(&mut found) {
            let run = bench(*address, &format!("{LOAD} {flags}")).await;
            let bad = run.other_than(&["OK"]);
            assert!(bad == 0.0 && run.rps() > 0.0, "{bad} requests to {name} failed: {way}");
            found.extend((round > 0).then(|| [run.rps(), run.ms("p50"), run.ms("p99")]));
        }
    }
    println!("\n| server | mode | in flight | requests/s | p50 ms | p99 ms |\n|---|---|---:|---:|---:|---:|");
    for ((name, _, (way, in_flight, _)), found) in rows.iter().zip(found) {
        let [rps, p50, p99] = [0, 1, 2].map(|at: usize| median(found.iter().map(|run| run[at]).collect()));
        println!("| {name} | {way} | {in_flight} | {rps:.0} | {p50:.2} | {p99:.2} |");
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A proxy, and a balancer over three, with an origin over the files.
fn ours(files: &Path) -> [Tested; 2] {
    let words = |http: u16| format!("--capacity {} --ttl 1h --http-port {http}", 2 * DOCUMENTS);
    let (alone, before) = (free_port(), free_port());
    let source = origin(files, 0);
    let one = proxy(source.address, 0, &words(alone));
    let behind =
        [(); PROXIES].map(|()| proxy(source.address, 0, &format!("--capacity {} --ttl 1h", 2 * DOCUMENTS)));
    let lb = balancer(&behind.each_ref().map(|proxy| proxy.address), &format!("--http-port {before}"));
    [
        Tested {
            name: "**dproxy proxy**",
            lines: Some(one.address),
            http: at(alone),
            _nodes: vec![one, source],
        },
        Tested {
            name: "**dproxy balancer over 3 proxies**",
            lines: Some(lb.address),
            http: at(before),
            _nodes: behind.into_iter().chain([lb]).collect(),
        },
    ]
}

/// nginx's cache, nginx and haproxy over three of them, and varnish, before an API at `source`.
async fn others(files: &Path, source: SocketAddr) -> Vec<Tested> {
    let mut caches = Vec::new();
    for _ in 0..=PROXIES {
        let address = at(free_port());
        caches.extend(Node::foreign(&mut cache(files, address, source, ("/", "")), address).await);
    }
    let listed: Vec<String> = caches.iter().skip(1).map(|cache| cache.address.to_string()).collect();
    let [over_nginx, over_haproxy, varnish_at] = [(); 3].map(|()| at(free_port()));
    let mut starts = [
        ("nginx over 3 nginx caches", over_nginx, nginx(files, over_nginx, &listed)),
        ("haproxy over 3 nginx caches", over_haproxy, haproxy(files, over_haproxy, &listed)),
        ("varnish", varnish_at, varnish(files, varnish_at, source)),
    ];
    let mut tested = Vec::new();
    for (name, address, start) in &mut starts {
        match Node::foreign(start, *address).await {
            Some(node) => tested.push(Tested { name, lines: None, http: *address, _nodes: vec![node] }),
            None => println!("{name} is left out: it does not start"),
        }
    }
    let http = caches[0].address;
    tested.insert(0, Tested { name: "nginx cache", lines: None, http, _nodes: caches });
    tested
}

/// nginx over the files of the documents: the API.
fn files_of(files: &Path, address: SocketAddr) -> Command {
    let server =
        format!("root {}; location / {{ rewrite ^/([a-z]+)/([0-9]+)$ /$1$2.json break; }}", files.display());
    nginx_with(files, address, "access_log off;", &server)
}

fn varnish(files: &Path, address: SocketAddr, source: SocketAddr) -> Command {
    let directory = files.join(format!("varnish-{}", address.port()));
    let mut command = Command::new("varnishd");
    command.args([
        "-F",
        "-a",
        &address.to_string(),
        "-b",
        &source.to_string(),
        "-s",
        "malloc,256m",
        "-t",
        "3600",
    ]);
    command.arg("-n").arg(directory);
    command
}
