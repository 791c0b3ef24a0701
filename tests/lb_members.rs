//! Changes of the proxies of a balancer: by file, by DRAIN, and by a purge that one of them missed.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use tokio::time::Instant;

use crate::http::with_http;
use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::command::make_fifo;
use crate::support::http::fetch;
use crate::support::load::Load;
use crate::support::node::own_host;
use crate::support::{
    Address, Data, Fake, Node, Session, Start, TempDir, ask, get, heavy, pause, status_of, until,
};

fn proxies(origin: &Node, count: usize) -> Vec<Node> {
    (0..count).map(|_| Start::proxy(origin.address, "").run()).collect()
}

fn put(file: &std::path::Path, lines: &[String]) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, lines.join("\n")).expect("the list is written");
    std::fs::rename(&beside, file).expect("the list is replaced");
}

fn names(balancer: &Node) -> Vec<String> {
    let metrics = balancer.metrics();
    metrics["proxies"].as_object().expect("the proxies").keys().cloned().collect()
}

#[test]
fn changes_of_the_list_file_cost_no_request() {
    let _alone = heavy();
    let data = Data::articles(20);
    let origin = Start::origin(data.path(), "").run();
    let proxies = proxies(&origin, 3);
    let lines: Vec<String> = proxies.iter().map(|proxy| proxy.address.to_string()).collect();
    let scratch = TempDir::new();
    let file = scratch.path().join("proxies");
    put(&file, &lines[..2]);
    let balancer = Start::role("lb", POLLS).arg("--proxies-file").arg(file.to_str().expect("UTF-8")).run();
    let load = Load::sessions(balancer.address, 20);
    load.go_on(100);
    let sent = |name: &str| balancer.metrics()["proxies"][name]["requests"].as_f64().unwrap_or_default();
    let before = sent(&lines[1]);
    put(&file, &["# ours".to_owned(), lines[1].clone(), format!("{} 2.5", lines[2])]);
    balancer.signal("HUP");
    until("the list is followed", || names(&balancer).len() == 2 && !names(&balancer).contains(&lines[0]));
    until("the new one is used", || sent(&lines[2]) > 20.0);
    assert!(sent(&lines[1]) >= before, "a node that stays keeps its counts");
    assert_eq!(balancer.metrics()["proxies"][&lines[2]]["weight"], 2.5);
    put(&file, &["not a proxy".to_owned()]);
    until("the bad list is reported", || balancer.log().contains("bad"));
    load.go_on(50);
    assert_eq!(names(&balancer).len(), 2, "and changes nothing");
    load.end_without_errors();
}

/// The file is written line by line, as by a script, again and again: a part of the list must never count as the whole.
#[test]
fn a_half_written_list_is_not_applied() {
    let proxies = [Fake::origin(), Fake::origin(), Fake::origin()];
    let lines: Vec<String> = proxies.iter().map(|proxy| format!("{}\n", proxy.address)).collect();
    let scratch = TempDir::new();
    let file = scratch.path().join("proxies");
    std::fs::write(&file, lines.concat()).expect("the list is written");
    let start = Start::role("lb", &format!("{POLLS} --log info"));
    let balancer = start.arg("--proxies-file").arg(file.to_str().expect("UTF-8")).run();
    let mut session = Session::open(balancer.address);
    let (mut written, mut longest) = (Instant::now(), Duration::ZERO);
    let mut has_written = || longest = longest.max(std::mem::replace(&mut written, Instant::now()).elapsed());
    for round in 0..60 {
        std::fs::write(&file, "").expect("the list is emptied");
        has_written();
        for (i, line) in lines.iter().enumerate() {
            pause(Duration::from_millis(15));
            let mut list = File::options().append(true).open(&file).expect("the list");
            list.write_all(line.as_bytes()).expect("a line more");
            has_written();
            let id = round * 3 + i as u64;
            assert_eq!(status_of(&session.ask(id, "GET a/1")), "OK");
        }
    }
    // On a loaded machine a part of the list may have stood there as long as a whole list has to.
    let kept_pace = longest < Duration::from_millis(150);
    assert!(!kept_pace || !balancer.log().contains("the node leaves"), "{}", balancer.log());
    until("the whole list is followed", || names(&balancer).len() == 3);
}

#[test]
fn a_list_that_is_no_regular_file_changes_nothing() {
    let proxies = [Fake::origin(), Fake::origin()];
    let scratch = TempDir::new();
    let file = scratch.path().join("proxies");
    put(&file, &[proxies[0].address.to_string()]);
    let mut balancer =
        Start::role("lb", POLLS).arg("--proxies-file").arg(file.to_str().expect("UTF-8")).run();
    std::fs::remove_file(&file).expect("the list was there");
    make_fifo(&file);
    until("the pipe is reported", || balancer.log().contains("it is not a regular file"));
    assert_eq!(get(balancer.address, "a/1")["status"], "OK");
    put(&file, &proxies.each_ref().map(|proxy| proxy.address.to_string()));
    until("the next list is followed", || names(&balancer).len() == 2);
    balancer.signal("TERM");
    assert_eq!(balancer.ended().code(), Some(0));
}

#[test]
fn a_new_proxy_was_not_healthy_before() {
    let (first, second) = (Fake::origin(), Fake::origin());
    let files = TempDir::new();
    let file = files.path().join("proxies");
    put(&file, &[first.address.to_string()]);
    let words = format!("--port 0 --proxies-file {} {POLLS}", file.display());
    let balancer = Start::role("lb", &words).run();
    put(&file, &[first.address.to_string(), second.address.to_string()]);
    until("it is used", || balancer.log().contains("the new node is healthy"));
    assert!(!balancer.log().contains("healthy again"), "{}", balancer.log());
}

#[test]
fn a_drained_proxy_gets_no_new_requests_until_it_is_undrained() {
    let _alone = heavy();
    let data = Data::articles(20);
    let origin = Start::origin(data.path(), "").run();
    let proxies = proxies(&origin, 2);
    let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
    let balancer = Start::balancer(&addresses, POLLS).run();
    let load = Load::plain(balancer.address, 20);
    load.go_on(50);
    let reply = parse(&ask(balancer.address, &format!("DRAIN {}", addresses[0])));
    assert_eq!((&reply["status"], &reply["data"]["state"]), (&"OK".into(), &"draining".into()), "{reply}");
    let drained = || balancer.metrics()["proxies"][addresses[0].to_string()].clone();
    until("the open requests are answered", || drained()["in_flight"] == 0);
    let before = drained()["requests"].clone();
    load.go_on(100);
    assert_eq!(drained()["requests"], before);
    assert_eq!(drained()["share"], 0);
    let unknown = ask(balancer.address, "DRAIN nobody:1");
    assert!(unknown.contains(&addresses[1].to_string()), "it names those that there are: {unknown}");
    let reply = parse(&ask(balancer.address, &format!("UNDRAIN {}", addresses[0])));
    assert_eq!(reply["data"]["state"], "healthy", "{reply}");
    until("it is used again", || drained()["requests"] != before);
    assert_ne!(drained()["share"], 0);
    load.end_without_errors();
    let reply = parse(&ask(balancer.address, "DRAIN 127.0.0.1:1"));
    assert_eq!(reply["status"], "BAD_REQUEST");
    let strict = Start::balancer(&addresses, "--admin-from 10.0.0.0/8").run();
    for line in [format!("DRAIN {}", addresses[0]), "PURGE article/*".to_owned()] {
        assert_eq!(parse(&ask(strict.address, &line))["status"], "FORBIDDEN");
    }
}

#[test]
fn a_purge_reaches_every_proxy_and_a_down_one_before_it_serves() {
    let data = Data::empty();
    data.put("article/1", br#"{"version":1}"#);
    let origin = Start::origin(data.path(), "").run();
    let host = own_host();
    let proxies: Vec<Node> =
        (0..2).map(|_| Start::proxy(origin.address, &format!("--host {host} --ttl 1h")).run()).collect();
    let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
    let balancer = Start::balancer(&addresses, &format!("{POLLS} --slow-start 0")).run();
    for address in &addresses {
        assert_eq!(get(*address, "article/1")["data"]["version"], 1);
    }
    // SIGSTOP, not killed: it comes back with its cache.
    proxies[0].signal("STOP");
    until("it is down", || !balancer.holds_healthy(addresses[0]));
    data.put("article/1", br#"{"version":2}"#);
    let reply = parse(&ask(balancer.address, "PURGE article/*"));
    let of = |address: Address| -> &Value { &reply["data"]["proxies"][address.to_string()] };
    assert_eq!((&reply["data"]["purged"], &of(addresses[1])["purged"]), (&1.into(), &1.into()), "{reply}");
    assert_eq!(of(addresses[0])["owed"], true, "{reply}");
    proxies[0].signal("CONT");
    until("it is back", || balancer.holds_healthy(addresses[0]));
    for _ in 0..20 {
        assert_eq!(get(balancer.address, "article/1")["data"]["version"], 2);
    }
    assert_eq!(get(addresses[0], "article/1")["data"]["version"], 2, "it purged before it served");
}

#[test]
fn explain_names_the_home_of_a_key_and_its_state() {
    let data = Data::articles(3);
    let origin = Start::origin(data.path(), "").run();
    let proxies = proxies(&origin, 3);
    let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
    let balancer = Start::balancer(&addresses, &format!("{POLLS} --strategy hash")).run();
    let before = parse(&ask(balancer.address, "EXPLAIN article/1"));
    assert_eq!((&before["status"], &before["data"]["cached"]), (&"OK".into(), &false.into()), "{before}");
    let node = get(balancer.address, "article/1")["node"].as_u64().expect("a node");
    let after = parse(&ask(balancer.address, "EXPLAIN article/1"));
    assert_eq!(after["data"]["cached"], true, "{after}");
    assert_eq!(after["data"]["node"], node, "EXPLAIN names the home that serves the key");
    assert!(after["data"]["proxy"].as_str().is_some_and(|name| name.ends_with(&format!(":{node}"))));
    assert_eq!(balancer.count("total_requests"), 1.0, "nothing was counted");
}

#[test]
fn a_proxy_whose_name_has_no_address_is_down_at_once() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let words =
        format!("--proxies no-such-proxy.invalid:1,{} --health-interval 1h --http-port 0", proxy.address);
    let mut balancer = Start::role("lb", &words).run();
    let http = balancer.serves_http();
    let state = |name: &str| balancer.metrics()["proxies"]["no-such-proxy.invalid:1"][name].take();
    // Long before `--max-failures` polls could have failed.
    until("it is down", || state("state") == "down");
    assert_eq!((state("healthy"), state("why")), (false.into(), "its name cannot be resolved".into()));
    assert_eq!(balancer.metrics()["cluster"]["healthy"], 1);
    let scraped = fetch(http, "/metrics").text().to_owned();
    assert!(scraped.contains("dproxy_node_healthy{node=\"no-such-proxy.invalid:1\"} 0"), "{scraped}");
    assert_eq!(balancer.log().matches("the name cannot be resolved").count(), 1, "{}", balancer.log());
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
}

#[test]
fn a_proxy_that_is_named_twice_is_drained_as_one_and_then_the_balancer_is_not_ready() {
    let origin = Fake::origin();
    let proxy = Start::proxy(origin.address, "").run();
    let (balancer, http) = with_http(Start::balancer(&[proxy.address; 2], POLLS));
    assert_eq!(balancer.metrics()["cluster"]["nodes"], 1);
    until("it is ready", || fetch(http, "/readyz").code == 200);
    assert_eq!(parse(&ask(balancer.address, &format!("DRAIN {}", proxy.address)))["status"], "BAD_REQUEST");
    assert_eq!(parse(&ask(balancer.address, &format!("DRAIN force {}", proxy.address)))["status"], "OK");
    assert!(ask(balancer.address, "GET article/1").contains("drained"), "the error says why");
    assert_eq!(fetch(http, "/readyz").code, 503);
}

#[test]
fn drains_in_the_list_file_and_the_state_directory_outlive_the_balancer() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxies = proxies(&origin, 3);
    let names: Vec<String> = proxies.iter().map(|proxy| proxy.address.to_string()).collect();
    let directory = TempDir::new();
    let (list, state) = (directory.path().join("list"), directory.path().join("state"));
    put(&list, &[format!("{} drain", names[0]), names[1].clone(), names[2].clone()]);
    let words = format!("--port 0 --proxies-file {} --state-dir {} {POLLS}", list.display(), state.display());
    let start = || Start::role("lb", &words).run();
    let states = |balancer: &Node| {
        let told = balancer.metrics();
        [0, 1, 2]
            .map(|index: usize| told["proxies"][&names[index]]["state"].as_str().expect("a state").to_owned())
    };
    let balancer = start();
    assert_eq!(states(&balancer), ["draining", "healthy", "healthy"]);
    let told = parse(&ask(balancer.address, &format!("DRAIN {}", names[1])));
    assert_eq!(told["data"]["kept"], true, "{told}");
    assert_eq!(states(&balancer), ["draining", "draining", "healthy"]);
    let refused = ask(balancer.address, &format!("DRAIN {}", names[2]));
    assert!(refused.contains("the last proxy"), "{refused}");
    let refused = ask(balancer.address, &format!("UNDRAIN {}", names[0]));
    assert!(refused.contains("list file says drain"), "{refused}");
    balancer.kill();

    let balancer = start();
    assert_eq!(states(&balancer), ["draining", "draining", "healthy"], "a restart knows both");
    put(&list, &names);
    balancer.signal("HUP");
    until("the list drains nobody", || states(&balancer) == ["healthy", "draining", "healthy"]);
    assert_eq!(parse(&ask(balancer.address, &format!("UNDRAIN {}", names[1])))["data"]["kept"], true);
    put(&list, &names.iter().map(|name| format!("{name} drain")).collect::<Vec<_>>());
    balancer.signal("HUP");
    until("a list that drains all is bad", || balancer.log().contains("it drains every proxy"));
    assert_eq!(states(&balancer), ["healthy"; 3]);
    balancer.kill();
    put(&list, &names);
    assert_eq!(states(&start()), ["healthy"; 3], "and who was undrained stays so");
}
