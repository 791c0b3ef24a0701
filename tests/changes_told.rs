//! CHANGED is said to any node: after its OK no node behind that one shows the old document as fresh.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::support::api::{Act, Api, ok, response};
use crate::support::ask::parse;
use crate::support::cluster::POLLS;
use crate::support::command::{dproxy, text};
use crate::support::fake::{Hello, METRICS};
use crate::support::{Address, Data, Fake, Node, Session, Start, ask, get, status_of, until};

/// An origin that sees no change by itself.
fn deaf_origin(data: &Data) -> Node {
    Start::origin(data.path(), "--changes told --lease 1s").run()
}

/// Proxies that hold an article for an hour.
fn holders<const N: usize>(origin: Address, words: [&str; N]) -> [Node; N] {
    words.map(|words| {
        let proxy = Start::proxy(origin, &format!("--ttl 1h {words}")).run();
        get(proxy.address, "article/1");
        proxy
    })
}

fn one_article() -> Data {
    let data = Data::empty();
    data.put("article/1", b"1");
    data
}

/// Says it with the client, and waits for all.
fn changed(node: Address) -> Value {
    let port = node.port().to_string();
    let output = dproxy(&["client", "--port", &port, "--changed", "article/1", "price/*", "--wait", "all"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    parse(&text(&output.stdout))["data"].take()
}

fn assert_new(nodes: &[Node], data: u64) {
    for node in nodes {
        let reply = get(node.address, "article/1");
        assert!(reply["data"] == data || reply["stale"] == true, "{reply}");
    }
}

#[test]
fn a_proxy_passes_it_on_to_the_origin_and_so_to_the_other_proxies() {
    let data = one_article();
    let origin = deaf_origin(&data);
    // The last one is not told of changes by the origin.
    let proxies = holders(origin.address, ["", "--cache-type lru", "--push-ttl off"]);
    for proxy in &proxies[..2] {
        until("changes are followed", || proxy.metrics()["push"]["state"] == "live");
    }
    for (number, at) in [(10, 0), (11, 2)] {
        get(proxies[2].address, "article/1");
        data.put("article/1", number.to_string().as_bytes());
        let told = changed(proxies[at].address);
        assert_eq!((&told["acked"], &told["lapsed"]), (&json!(2), &json!(0)), "{told}");
        assert!(told["seq"].is_u64(), "{told}");
        assert_new(&proxies[..2], number);
    }
    assert_eq!(get(proxies[2].address, "article/1")["data"], 11, "it heard it from its client");
    data.put("article/1", b"12");
    let reply = Session::open(proxies[1].address).ask(7, "CHANGED article/* wait=all");
    assert_eq!(status_of(&reply), "OK", "{reply}");
    assert_new(&proxies[..2], 12);
}

#[test]
fn through_a_proxy_before_another_it_reaches_the_origin() {
    let data = one_article();
    let origin = deaf_origin(&data);
    let shield = holders(origin.address, [""]);
    let edges = holders(shield[0].address, ["", "--cache-type s3fifo"]);
    let addresses = edges.each_ref().map(|edge| edge.address);
    let balancer = [Start::balancer(&addresses, POLLS).run()];
    for number in [10, 11, 12] {
        data.put("article/1", number.to_string().as_bytes());
        let told = changed(balancer[0].address);
        assert_eq!((&told["acked"], told["proxies"].as_object().map(|all| all.len())), (&json!(2), Some(2)));
        for nodes in [&balancer[..], &edges, &shield] {
            assert_new(nodes, number);
        }
    }
    assert_eq!(origin.metrics()["changes"]["seq"], 3 * 2 * 2, "two names, by two proxies, each time");
}

#[test]
fn before_an_api_or_an_origin_that_tells_nobody_only_the_proxy_knows() {
    let edition = Arc::new(AtomicU64::new(1));
    let api = Api::start({
        let edition = edition.clone();
        move |_| match edition.load(Ordering::SeqCst) {
            0 => Act::Say(response("503 Service Unavailable", "", "")),
            edition => ok("cache-control: max-age=3600", edition.to_string()),
        }
    });
    let older = Fake::start(Hello::Granted, {
        let edition = edition.clone();
        move |asked| match asked.path() {
            Some(_) => {
                asked.reply(&format!("{{\"status\":\"OK\",\"data\":{}}}", edition.load(Ordering::SeqCst)));
            }
            None => asked.reply(r#"{"status":"WRONG_METHOD","data":"this node has no CHANGED"}"#),
        }
    });
    let proxies = [
        Start::role("proxy", &format!("--origin {}", api.url())).run(),
        Start::proxy(older.address, "--ttl 1h").run(),
    ];
    for proxy in &proxies {
        edition.store(1, Ordering::SeqCst);
        get(proxy.address, "article/1");
        edition.store(2, Ordering::SeqCst);
        let held = get(proxy.address, "article/1");
        assert_eq!((&held["data"], &held["cache_hit"]), (&json!(1), &json!(true)));
        assert_eq!(changed(proxy.address), json!({"acked": 1, "lapsed": 0, "only_here": true}));
        assert_eq!(get(proxy.address, "article/1")["data"], 2);
    }
    edition.store(0, Ordering::SeqCst);
    changed(proxies[0].address);
    let reply = get(proxies[0].address, "article/1");
    assert_eq!((&reply["data"], &reply["stale"]), (&json!(2), &json!(true)), "the last one is kept");
}

#[test]
fn a_proxy_that_is_down_owes_it_and_an_older_one_purges() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Fake::start(Hello::Granted, {
        let is_down = is_down.clone();
        move |asked| match asked.request {
            _ if is_down.load(Ordering::SeqCst) => asked.close(),
            "METRICS" => asked.reply(METRICS),
            "PURGE soft" if asked.options == "article/1" => {
                asked.reply(r#"{"status":"OK","data":{"purged":1}}"#);
            }
            _ => asked.reply(r#"{"status":"OK","data":{}}"#),
        }
    });
    let older = Fake::start(Hello::Granted, |asked| match asked.request {
        "METRICS" => asked.reply(METRICS),
        request if request.starts_with("CHANGED") => {
            asked.reply(r#"{"status":"WRONG_METHOD","data":"this node has no CHANGED"}"#);
        }
        _ => asked.reply(r#"{"status":"OK","data":{"purged":1}}"#),
    });
    let balancer = Start::balancer(&[down.address, older.address], POLLS).run();
    until("it is out", || !balancer.holds_healthy(down.address));
    let reply = parse(&ask(balancer.address, "CHANGED article/1"));
    let (status, at) = (&reply["status"], &reply["data"]["proxies"]);
    assert_eq!((status, &reply["data"]["durable"]), (&json!("PROXY_UNREACHABLE"), &json!(false)), "{reply}");
    assert_eq!(at[down.address.to_string()]["owed"], true, "{reply}");
    assert_eq!(at[older.address.to_string()]["only_here"], true, "{reply}");
    assert!(older.requests().contains(&"PURGE soft".to_owned()));
    is_down.store(false, Ordering::SeqCst);
    until("it serves again", || balancer.holds_healthy(down.address));
    let requests = down.requests();
    let purged = requests.iter().position(|request| request == "PURGE soft");
    let asked = requests.iter().position(|request| request.starts_with("GET"));
    assert!(purged.is_some() && asked.is_none_or(|asked| purged < Some(asked)), "{requests:?}");
}

#[test]
fn an_older_proxy_behind_a_proxy_purges_before_it_is_asked_again() {
    let may_purge = Arc::new(AtomicBool::new(false));
    let older = Fake::start(Hello::Granted, {
        let (may_purge, edition) = (may_purge.clone(), AtomicU64::new(1));
        move |asked| match asked.request {
            request if request.starts_with("GET") => {
                let edition = edition.load(Ordering::SeqCst);
                asked.reply(&format!("{{\"status\":\"OK\",\"data\":{edition}}}"));
            }
            "PURGE soft" if may_purge.load(Ordering::SeqCst) => {
                edition.store(2, Ordering::SeqCst);
                asked.reply(r#"{"status":"OK","data":{"purged":1}}"#);
            }
            "PURGE soft" => asked.reply(r#"{"status":"FORBIDDEN","data":"no"}"#),
            _ => asked.reply(r#"{"status":"WRONG_METHOD","data":"this node has no CHANGED"}"#),
        }
    });
    let proxy = &holders(older.address, [""])[0];
    assert_eq!(get(proxy.address, "article/1")["cache_hit"], true);
    assert_eq!(
        status_of(&ask(proxy.address, "CHANGED article/1 wait=all")),
        "FORBIDDEN",
        "it may show the old one"
    );
    may_purge.store(true, Ordering::SeqCst);
    assert_eq!(changed(proxy.address)["only_here"], true);
    assert_eq!(older.requests().iter().filter(|request| *request == "PURGE soft").count(), 3);
    assert_new(std::slice::from_ref(proxy), 2);
}

#[test]
fn it_is_for_administrators_at_every_node() {
    let data = one_article();
    let origin = Start::origin(data.path(), "--changes told --admin-from 10.0.0.0/8").run();
    let proxies = holders(origin.address, ["", "--admin-from 10.0.0.0/8"]);
    let addresses = proxies.each_ref().map(|proxy| proxy.address);
    let deaf = Start::balancer(&addresses, "--admin-from 10.0.0.0/8").run();
    for node in [deaf.address, proxies[1].address] {
        for reply in [ask(node, "CHANGED article/1"), Session::open(node).ask(1, "CHANGED article/1")] {
            assert!(reply.contains("FORBIDDEN") && reply.contains("see --admin-from"), "{reply}");
        }
    }
    assert_eq!(get(proxies[0].address, "article/1")["cache_hit"], true);
    data.put("article/1", b"10");
    // The origin refuses the word of the first proxy, which believes it all the same.
    let reply = ask(proxies[0].address, "CHANGED article/1 wait=all");
    assert!(reply.contains("FORBIDDEN") && reply.contains("only this proxy"), "{reply}");
    assert_eq!(get(proxies[0].address, "article/1")["data"], 10);
    let balancer = Start::balancer(&addresses, POLLS).run();
    let port = balancer.port().to_string();
    let output = dproxy(&["client", "--port", &port, "--changed", "article/1"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("PROXY_ERROR"), "{}", text(&output.stdout));
    for address in addresses {
        assert!(text(&output.stderr).contains(&address.to_string()), "{}", text(&output.stderr));
    }
}
