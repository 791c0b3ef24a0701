//! `dproxy cluster`: one command starts every node, prints their addresses, serves the sample documents, and stops as
//! one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::ask::parse;
use crate::support::command::{dproxy, text};
use crate::support::http::fetch;
use crate::support::{Address, Data, Node, Start, ask, get, status_of, until};

const ANY_PORTS: &str = "--port 0 --origin-port 0 --proxy-port 0 --http-port 0";

/// The lines of its listeners in the printed order, and the line to try.
fn started(start: Start, proxies: usize) -> (Node, Vec<(String, Address)>, String) {
    let mut cluster = start.spawn();
    let nodes: Vec<(String, Address)> = (0..proxies + 2).map(|_| cluster.listens()).collect();
    cluster.serves_http();
    let line = cluster.prints();
    cluster.address = find(&nodes, "balancer")[0];
    (cluster, nodes, line)
}

fn find(nodes: &[(String, Address)], role: &str) -> Vec<Address> {
    nodes.iter().filter(|(name, _)| name == role).map(|&(_, address)| address).collect()
}

fn cluster(data: &Path, words: &str) -> Start {
    Start::role("cluster", &format!("{ANY_PORTS} {words}")).arg("--data").arg(data.to_str().expect("text"))
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

#[test]
fn one_command_starts_every_node() {
    let data = Data::articles(5);
    let (cluster, nodes, line) = started(cluster(data.path(), ""), 3);
    assert_eq!((find(&nodes, "origin").len(), find(&nodes, "proxy").len()), (1, 3));
    assert!(line.contains(&cluster.port().to_string()), "the line to try finds the balancer: {line}");
    for i in 1..=5 {
        assert_eq!(get(cluster.address, &format!("article/{i}"))["status"], "OK");
    }
    for (role, address) in &nodes {
        assert_eq!(get(*address, "article/1")["data"]["id"], "article/1", "{role}");
        assert_eq!(status_of(&ask(*address, "METRICS")), "OK", "{role}");
    }
    for proxy in find(&nodes, "proxy") {
        assert!(cluster.holds_healthy(proxy));
    }
}

#[test]
fn it_takes_the_settings_of_its_nodes() {
    let data = Data::articles(4);
    let words = "--proxies 2 --strategy least-loaded --cache-type lru --capacity 2 --ttl 1h";
    let (cluster, nodes, _) = started(cluster(data.path(), words), 2);
    assert_eq!(cluster.metrics()["strategy"], "least_loaded");
    let proxy = find(&nodes, "proxy")[0];
    let hits = ["1", "2", "3", "1"].map(|i| get(proxy, &format!("article/{i}"))["cache_hit"] == true);
    assert_eq!(hits, [false; 4], "a capacity of 2 does not hold the first of three");
}

#[test]
fn over_http_it_says_how_its_proxies_hold_documents() {
    let data = Data::articles(1);
    let words = "--ttl 60s --ttl-jitter 0 --stale-while-revalidate 5s --stale-if-error 10m";
    let mut cluster = cluster(data.path(), &format!("--proxies 1 {words}")).spawn();
    (0..3).for_each(|_| drop(cluster.listens()));
    let http = cluster.serves_http();
    let document = fetch(http, "/article/1");
    let control = document.header("cache-control");
    assert!(control.ends_with(", stale-while-revalidate=5, stale-if-error=600"), "{control}");
}

#[test]
fn one_signal_stops_every_node() {
    let data = Data::articles(1);
    let (mut cluster, nodes, _) = started(cluster(data.path(), ""), 3);
    assert_eq!(get(cluster.address, "article/1")["status"], "OK");
    cluster.signal("TERM");
    assert_eq!(cluster.ended().code(), Some(0));
    for (role, address) in nodes {
        assert!(address.connect().is_err(), "{role} still listens");
    }
}

#[test]
fn the_line_to_try_works() {
    let data = Data::articles(1);
    let (_cluster, _, line) = started(cluster(data.path(), ""), 3);
    let words: Vec<&str> = line.split_whitespace().skip_while(|&word| word != "client").collect();
    assert!(words.contains(&"--get"), "{line}");
    let output = dproxy(&words);
    assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    assert_eq!(parse(text(&output.stdout).trim_end())["data"]["id"], "article/1");
}

#[test]
fn the_line_to_try_names_a_document_that_is_there() {
    let data = Data::empty();
    let try_it = |words: &str| started(cluster(data.path(), &format!("--proxies 1 {words}")), 1).2;
    let nothing = try_it("");
    assert!(
        nothing.starts_with("there is no document in ") && nothing.contains("article1.json"),
        "{nothing}"
    );
    data.put("broken/0", b"{");
    data.put("menu/main", b"1");
    data.put("shop/22", b"1");
    let line = try_it("");
    assert!(line.starts_with("try it: ") && line.ends_with("--get shop/22"), "{line}");
    let line = try_it("--layout nested");
    assert!(line.starts_with("there is no document") && line.ends_with("--layout flat"), "{line}");
}

#[test]
fn the_samples_are_documents() {
    let files: Vec<PathBuf> = fs::read_dir(samples())
        .expect("the sample documents")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    assert!(files.len() >= 30, "{} sample documents", files.len());
    let start = cluster(&samples(), "");
    let (cluster, _, _) = started(start, 3);
    assert_eq!(get(cluster.address, "article/1")["status"], "OK");
    let mut spread = 0;
    for file in files {
        // In the flat layout the name may be split anywhere.
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let (resource, key) = name.split_at(1);
        let reply = ask(cluster.address, &format!("GET {resource}/{key}"));
        assert_eq!(status_of(&reply), "OK", "{name}: {reply}");
        let stored = fs::read_to_string(&file).expect("the sample");
        spread += usize::from(stored.lines().count() > 2);
    }
    assert!(spread >= 25, "only {spread} are printed like files that people edit");
}

#[test]
fn data_is_the_default_directory() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let origin = Start::role("origin", "").within(root).run();
    assert_eq!(get(origin.address, "article/1")["status"], "OK");
    let start = Start::role("cluster", ANY_PORTS).within(root);
    let (cluster, _, _) = started(start, 3);
    until("it serves", || get(cluster.address, "article/1")["status"] == "OK");
}
