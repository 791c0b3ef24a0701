//! Changes at the origin: proxies are told of them at once, and a proxy that may have missed one knows that.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ask::parse;
use crate::support::command::{dproxy, text};
use crate::support::fake::{Hello, answer_soundly};
use crate::support::temp::Data;
use crate::support::{Address, Fake, Node, Session, Start, TempDir, ask, get, status_of, timed, until};

/// No time to live ends within a test.
const FOR_LONG: &str = "--ttl 1h";

fn push(proxy: &Node, name: &str) -> Value {
    proxy.metrics()["push"][name].clone()
}

fn is_live(proxy: &Node) -> bool {
    push(proxy, "state") == "live"
}

/// A proxy that follows the changes of an origin, and holds `article/1` and `article/2`.
fn follower(origin: Address, words: &str) -> Node {
    let proxy = Start::proxy(origin, words).run();
    get(proxy.address, "article/1");
    until("changes are followed", || is_live(&proxy));
    // What was asked for before the first word may have changed by then.
    for key in ["article/1", "article/2"] {
        get(proxy.address, key);
        assert_eq!(get(proxy.address, key)["cache_hit"], true);
    }
    proxy
}

fn two_articles() -> Data {
    let data = Data::empty();
    data.put("article/1", b"1");
    data.put("article/2", b"2");
    data
}

#[test]
fn a_saved_file_is_seen_at_every_proxy_and_no_other_document_is_fetched_again() {
    let data = two_articles();
    let origin = Start::origin(data.path(), "").run();
    let proxies = ["ttl --ttl 1h", "lru", "s3fifo"]
        .map(|cache| follower(origin.address, &format!("--cache-type {cache}")));
    for number in [10, 11, 12] {
        let beside = data.path().join("new.tmp");
        fs::write(&beside, number.to_string()).expect("a file");
        fs::rename(beside, data.file("article/1")).expect("a file is replaced");
        for proxy in &proxies {
            until("the new one is served", || get(proxy.address, "article/1")["data"] == number);
        }
    }
    for proxy in &proxies {
        assert_eq!(get(proxy.address, "article/2")["cache_hit"], true);
    }
    fs::remove_file(data.file("article/1")).expect("a file is removed");
    until("its end is seen", || get(proxies[0].address, "article/1")["status"] == "NOT_FOUND");
}

#[test]
fn a_document_stays_fresh_past_its_time_to_live_while_the_origin_tells_of_no_change() {
    let data = two_articles();
    let origin = Start::origin(data.path(), "--lease 1s").run();
    let proxy = follower(origin.address, "--ttl 500ms");
    let (bounded, deaf) = (
        follower(origin.address, "--ttl 500ms --push-ttl ttl"),
        Start::proxy(origin.address, "--ttl 500ms --push-ttl off").run(),
    );
    let before = proxy.count("origin_fetches");
    for node in [&bounded, &deaf] {
        get(node.address, "article/1");
        let fetches = node.count("origin_fetches");
        until("its time ends", || {
            get(node.address, "article/1");
            node.count("origin_fetches") > fetches
        });
    }
    let reply = get(proxy.address, "article/1");
    assert_eq!((&reply["cache_hit"], reply.get("stale")), (&json!(true), None), "{reply}");
    assert_eq!(proxy.count("origin_fetches"), before, "it is fetched once");
    // Its age counts from the last word of the origin.
    let told = parse(&Session::open(proxy.address).ask(1, "GET article/1 tell=times"));
    assert!(told["age"].as_u64() <= Some(1), "{told}");
    origin.kill();
    until("its time ends after the lease", || get(proxy.address, "article/1")["stale"] == true);
    assert_eq!(push(&proxy, "state"), "lapsed");
}

#[test]
fn a_document_without_a_time_to_live_is_stale_when_the_origin_is_not_heard() {
    let data = two_articles();
    let origin = Start::origin(data.path(), "--lease 300ms").run();
    let proxy = follower(origin.address, "--cache-type lru --fetch-deadline 300ms");
    origin.signal("STOP");
    until("the lease ends", || get(proxy.address, "article/1")["stale"] == true);
    data.put("article/1", b"10");
    origin.signal("CONT");
    until("the change is seen", || {
        let reply = get(proxy.address, "article/1");
        assert!(reply["data"] == 10 || reply["stale"] == true, "{reply}");
        reply["data"] == 10
    });
    assert!(push(&proxy, "lapses").as_u64() >= Some(1));
}

#[test]
fn whoever_changes_a_document_elsewhere_says_so_and_waits_until_nobody_shows_the_old_one() {
    let data = two_articles();
    let origin = Start::origin(data.path(), "--changes told --lease 1s").run();
    let proxies = ["lru", "s3fifo"].map(|cache| follower(origin.address, &format!("--cache-type {cache}")));
    data.put("article/1", b"10");
    assert_eq!(get(proxies[0].address, "article/1")["data"], 1, "nobody has said it");
    let port = origin.port().to_string();
    let changed = |wait: &[&str]| {
        let said = ["client", "--port", &port, "--changed", "article/1", "price/*"];
        let output = dproxy(&[&said[..], wait].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        parse(&text(&output.stdout))["data"].take()
    };
    assert_eq!(changed(&["--wait", "all"]), json!({"seq": 2, "acked": 2, "lapsed": 0}));
    let told = &origin.metrics()["changes"];
    assert!(told["told_seconds_ago"].is_f64() && told["everywhere_seconds"].is_f64(), "{told}");
    for proxy in &proxies {
        let reply = get(proxy.address, "article/1");
        assert_eq!((&reply["data"], &reply["cache_hit"]), (&json!(10), &json!(false)));
    }
    // One that hears nothing shows nothing as fresh once the reply has come.
    proxies[1].signal("STOP");
    data.put("article/1", b"11");
    let (took, told) = timed(|| changed(&["--wait", "all"]));
    assert_eq!((&told["acked"], &told["lapsed"]), (&json!(1), &json!(1)), "{told}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    proxies[1].signal("CONT");
    let reply = get(proxies[1].address, "article/1");
    assert!(reply["data"] == 11 || reply["stale"] == true, "{reply}");
    assert_eq!(changed(&[])["lapsed"], 0, "without a wait");
}

#[test]
fn an_origin_that_comes_back_with_older_documents_is_believed() {
    let (newer, older) = (two_articles(), two_articles());
    newer.put("article/1", b"10");
    let origin = Start::origin(newer.path(), "--lease 500ms").run();
    let address = origin.address;
    let proxy = follower(address, FOR_LONG);
    origin.kill();
    let _origin = Start::origin(older.path(), &format!("--port {}", address.port())).run();
    until("the older one is served", || get(proxy.address, "article/1")["data"] == 1);
    until("changes are followed", || is_live(&proxy));
    assert!(push(&proxy, "resets").as_u64() >= Some(1));
}

#[test]
fn a_link_that_is_pointed_to_another_release_is_seen() {
    let site = TempDir::new();
    for (release, text) in [("r1", "1"), ("r2", "2")] {
        fs::create_dir(site.path().join(release)).expect("a directory");
        for file in ["article1.json", "article2.json"] {
            fs::write(site.path().join(release).join(file), text).expect("a file");
        }
    }
    let current = site.path().join("current");
    symlink("r1", &current).expect("a link");
    let origin = Start::origin(&current, "").run();
    let proxy = follower(origin.address, FOR_LONG);
    symlink("r2", site.path().join("new")).expect("a link");
    fs::rename(site.path().join("new"), &current).expect("the link is replaced");
    until("the new release is served", || get(proxy.address, "article/1")["data"] == 2);
}

#[test]
fn a_file_that_breaks_is_told_and_the_last_good_document_is_served_as_stale() {
    let data = two_articles();
    let origin = Start::origin(data.path(), "--settle-time 0").run();
    let proxy = follower(origin.address, FOR_LONG);
    data.put("article/1", b"{");
    until("it is known to be old", || {
        let reply = get(proxy.address, "article/1");
        assert_eq!((&reply["status"], &reply["data"]), (&json!("OK"), &json!(1)), "{reply}");
        reply["stale"] == true
    });
    data.put("article/1", b"10");
    until("it is sound again", || get(proxy.address, "article/1")["data"] == 10);
}

#[test]
fn a_thousand_files_that_are_written_at_once_are_all_seen() {
    let data = two_articles();
    let all: Vec<u32> = (1..=1000).collect();
    let write = |text: &str| {
        all.iter().for_each(|i| data.put(&format!("article/{i}"), text.as_bytes()));
    };
    write("1");
    let origin = Start::origin(data.path(), "").run();
    let proxy = follower(origin.address, FOR_LONG);
    let ask_all = || {
        let mut session = Session::open(proxy.address);
        session.send_many(1..1001, |i| format!("GET article/{i}"));
        let replies = session.replies_to(1..1001);
        replies.into_values().map(|line| parse(&line)["data"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ask_all(), vec![json!(1); 1000]);
    write("2");
    until("none is old", || ask_all() == vec![json!(2); 1000]);
}

#[test]
fn before_an_older_origin_documents_are_fresh_for_their_time_to_live() {
    for hello in [Hello::Refused, Hello::Granted] {
        let origin = Fake::start(hello, answer_soundly);
        let proxy = Start::proxy(origin.address, "--ttl 300ms").run();
        get(proxy.address, "article/1");
        assert_eq!(get(proxy.address, "article/1")["cache_hit"], true, "{hello:?}");
        until("its time ends", || {
            get(proxy.address, "article/1");
            proxy.count("origin_fetches") > 1.0
        });
        assert_eq!((push(&proxy, "state"), proxy.count("origin_failures")), (json!("off"), 0.0));
        assert!(origin.requests().iter().all(|request| request == "GET article/1"));
    }
}

#[test]
fn words_of_changes_are_for_those_who_may_have_them() {
    let data = two_articles();
    let origin = Start::origin(data.path(), "--watch-from 10.0.0.0/8 --admin-from 10.0.0.0/8").run();
    let mut session = Session::open(origin.address);
    for (id, line) in [(1, "WATCH - 0"), (2, "CHANGED article/1")] {
        assert_eq!(status_of(&session.ask(id, line)), "FORBIDDEN", "{line}");
    }
    assert_eq!(status_of(&ask(origin.address, "WATCH - 0")), "BAD_REQUEST", "in sessions only");
    let proxy = Start::proxy(origin.address, FOR_LONG).run();
    assert_eq!(status_of(&Session::open(proxy.address).ask(1, "WATCH - 0")), "WRONG_METHOD");
    get(proxy.address, "article/1");
    assert_eq!(get(proxy.address, "article/1")["cache_hit"], true);
    assert_eq!(push(&proxy, "state"), "off");
}
