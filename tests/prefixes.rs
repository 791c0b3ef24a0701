//! Lifetimes of a prefix: by flag and in the file, in EXPLAIN and `check`, and read anew without losing the cache.

use std::fs;

use serde_json::Value;

use crate::support::ask::parse;
use crate::support::command::{dproxy, text};
use crate::support::{Address, Data, Node, Start, TempDir, ask, get, until};

fn explained(node: Address, key: &str) -> Value {
    parse(&ask(node, &format!("EXPLAIN {key}")))["data"].take()
}

fn origin() -> (Data, Node) {
    let data = Data::empty();
    for (key, document) in [("flags/1", "1"), ("flags/eu/1", "2"), ("article/1", "3")] {
        let file = data.path().join(format!("{key}.json"));
        fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        fs::write(file, document).expect("a document");
    }
    let origin = Start::origin(data.path(), "--changes off --layout nested").run();
    (data, origin)
}

#[test]
fn the_longest_prefix_counts_and_explain_says_so() {
    let (_data, origin) = origin();
    let words = "--ttl 1h --ttl-jitter 0 --prefix flags/*=ttl:2m,negative-ttl:10s --prefix flags/eu/*=ttl:3m";
    let proxy = Start::proxy(origin.address, words).run();
    for (key, rule, seconds) in [
        ("flags/1", "prefix flags/*", 120.0),
        ("flags/eu/1", "prefix flags/eu/*", 180.0),
        ("article/1", "flag", 3600.0),
    ] {
        assert_eq!(explained(proxy.address, key)["rule"], rule, "{key}, before it is held");
        assert_eq!(get(proxy.address, key)["status"], "OK");
        let told = explained(proxy.address, key);
        assert_eq!((&told["rule"], &told["lifetime_seconds"]), (&rule.into(), &seconds.into()), "{key}");
    }
    for (key, is_kept) in [("flags/none", true), ("flags/eu/none", false), ("article/none", false)] {
        assert_eq!(get(proxy.address, key)["status"], "NOT_FOUND");
        assert_eq!(get(proxy.address, key)["cache_hit"], is_kept, "{key}");
    }
    assert_eq!(explained(proxy.address, "flags/none")["rule"], "prefix flags/*");
}

#[test]
fn a_document_of_a_short_life_is_stale_while_others_are_fresh() {
    let (_data, mut origin) = origin();
    let words = "--ttl 1h --prefix flags/*=ttl:50ms,stale-if-error:1h";
    let proxy = Start::proxy(origin.address, words).run();
    get(proxy.address, "flags/1");
    get(proxy.address, "article/1");
    origin.signal("KILL");
    origin.ended();
    until("its time is over", || get(proxy.address, "flags/1")["stale"] == true);
    assert_eq!(get(proxy.address, "article/1")["stale"], Value::Null);
}

#[test]
fn a_file_is_read_anew_at_sighup_and_the_cache_stays() {
    let (_data, origin) = origin();
    let directory = TempDir::new();
    let path = directory.path().join("dproxy.toml");
    let settings = |flags: &str| {
        let all = "[proxy]\nttl = \"1h\"\nttl-jitter = 0\n";
        fs::write(&path, format!("{all}[proxy.prefix.\"flags/*\"]\n{flags}\n")).expect("settings");
    };
    settings("ttl = \"2m\"");
    let file = path.to_str().expect("UTF-8");
    let proxy = Start::proxy(origin.address, &format!("--config {file}")).run();
    get(proxy.address, "flags/1");
    get(proxy.address, "article/1");
    let lifetime = |key: &str| explained(proxy.address, key)["lifetime_seconds"].clone();
    assert_eq!([lifetime("flags/1"), lifetime("article/1")], [120.0, 3600.0]);

    settings("ttl = \"nonsense\"");
    proxy.signal("HUP");
    until("it says what is wrong", || proxy.log().contains("the settings are as they were"));
    assert!(proxy.log().contains("[proxy] prefix: "), "{}", proxy.log());

    settings("ttl = \"5s\"");
    proxy.signal("HUP");
    until("the old life ends", || explained(proxy.address, "flags/1")["state"] == "stale");
    let served = get(proxy.address, "flags/1");
    assert_eq!((&served["cache_hit"], &served["data"]), (&true.into(), &1.into()), "nothing is lost");
    until("it is fetched under the new rule", || lifetime("flags/1") == 5.0);
    assert_eq!(explained(proxy.address, "article/1")["state"], "fresh", "others are left alone");
    assert_eq!(proxy.count("entries"), 2.0);
}

#[test]
fn check_says_which_prefix_has_which_times() {
    let directory = TempDir::new();
    let path = directory.path().join("dproxy.toml");
    let check = |settings: &str| {
        fs::write(&path, settings).expect("settings");
        dproxy(&["check", "proxy", "--config", path.to_str().expect("UTF-8")])
    };
    let output = check(
        "[proxy]\nport = 1\n\n[proxy.prefix.\"flags/*\"]\nttl = 2\n[proxy.prefix.\"a/b/*\"]\nttl = \"1m\"\n",
    );
    let told = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for row in ["flags/*=ttl:2 ", "a/b/*=ttl:1m "] {
        let line = told.lines().find(|line| line.contains(row)).unwrap_or_else(|| panic!("{row}: {told}"));
        assert!(line.trim_start().starts_with("prefix ") && line.ends_with("dproxy.toml:4"), "{line}");
    }
    for (settings, why) in [
        ("[proxy.prefix.\"flags/*\"]\nmax-ttl = 2\n", "a prefix has no \"max-ttl\""),
        ("[proxy.prefix.flags]\nttl = 2\n", "write a prefix"),
        ("[proxy.ttl.x]\nttl = 2\n", "it takes one value"),
    ] {
        let output = check(settings);
        assert_eq!(output.status.code(), Some(2), "{settings}");
        assert!(text(&output.stderr).contains(why), "{settings}: {}", text(&output.stderr));
    }
}
