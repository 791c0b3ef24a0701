//! The questions of a night: each is asked of a running cluster by the command that README's runbook names for it, and the
//! answer is read.

use std::path::PathBuf;

use serde_json::Value;

use crate::simulate::simulate;
use crate::support::ask::parse;
use crate::support::command::{dproxy, text};
use crate::support::{Address, Data, Node, Session, Start, TempDir, eventually, get, until};

/// Documents that are requested in turn; every other request is for the first.
const ARTICLES: u64 = 40;
const ROUNDS: u64 = 12;
/// Of a proxy: 40 documents take more, and less than twice that.
const MAX_BYTES: usize = 32 << 10;

struct Night {
    data: Data,
    scratch: TempDir,
    _origin: Node,
    proxies: Vec<Node>,
    balancer: Node,
}

impl Night {
    fn start() -> Self {
        let (data, scratch) = (Data::empty(), TempDir::new());
        for article in 1..=ARTICLES {
            data.put(&format!("article/{article}"), format!("{{\"text\":\"{:01000}\"}}", article).as_bytes());
        }
        let origin = Start::origin(data.path(), "--changes off --settle-time 0").run();
        let words = format!("--cache-type lru --max-bytes {} --ttl 1h --origin-retry 1m", MAX_BYTES);
        let proxies: Vec<Node> = (0..3).map(|_| Start::proxy(origin.address, &words).run()).collect();
        let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
        let log = scratch.path().join("access.log");
        let balancer =
            Start::balancer(&addresses, "--strategy round_robin --hedge off --health-interval 100ms")
                .arg("--access-log")
                .arg(log.to_str().expect("a path"))
                .run();
        addresses.iter().for_each(|&address| until("all are healthy", || balancer.holds_healthy(address)));
        Self { data, scratch, _origin: origin, proxies, balancer }
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("access.log")
    }

    /// What `dproxy client` prints when it asks the balancer, and its exit code.
    fn client(&self, words: &str) -> (Value, Option<i32>) {
        let port = self.balancer.port().to_string();
        let mut line = vec!["client", "--port", &port];
        line.extend(words.split_whitespace());
        let output = dproxy(&line);
        (parse(text(&output.stdout).trim_end())["data"].take(), output.status.code())
    }

    fn explain(&self, key: &str) -> Value {
        self.client(&format!("--explain {key}")).0
    }

    /// The METRICS of each proxy as the balancer has them, once it has those of now.
    fn of_proxies(&self, requests: u64) -> Vec<Value> {
        eventually("the balancer has polled them", || {
            let (told, _) = self.client("--metrics");
            let all = told["proxies"].as_object().expect("the proxies").values();
            let all: Vec<Value> = all.map(|proxy| proxy["metrics"].clone()).collect();
            (sum(&all, "total_requests") == requests).then_some(all)
        })
    }
}

fn sum(all: &[Value], name: &str) -> u64 {
    all.iter().map(|one| one[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {one}"))).sum()
}

#[test]
fn each_question_of_a_night_has_a_command_that_answers_it() {
    let mut night = Night::start();
    let mut session = Session::open(night.balancer.address);
    let requests = 2 * ARTICLES * ROUNDS;
    for id in 0..requests {
        let article = if id % 2 == 0 { 1 } else { id / 2 % ARTICLES + 1 };
        session.ask(id, &format!("GET article/{article}"));
    }
    let proxies = night.of_proxies(requests);
    which_key_is_hot(&proxies);
    which_limit_binds(&proxies);
    what_would_twice_the_memory_give(&night, requests, sum(&proxies, "misses"));
    why_is_it_old(&night);
    why_does_it_fail(&night);
    who_was_told_of_a_purge(&mut night);
}

fn which_key_is_hot(proxies: &[Value]) {
    for proxy in proxies {
        let hottest = &proxy["hot_keys"][0];
        let share = hottest["share"].as_f64().expect("a share");
        assert!(hottest["key"] == "article/1" && (0.4..0.6).contains(&share), "{proxy}");
    }
}

fn which_limit_binds(proxies: &[Value]) {
    for proxy in proxies {
        let by = &proxy["evictions_by"];
        assert!(by["bytes"].as_u64() > Some(0) && by["entries"] == 0, "{proxy}");
        assert_eq!(proxy["max_bytes"], MAX_BYTES);
    }
}

/// The access log of the balancer, replayed: what the proxies missed, and what they would with twice the memory.
fn what_would_twice_the_memory_give(night: &Night, requests: u64, misses: u64) {
    let words = format!(
        "--proxies 3 --strategy round_robin --cache-type lru --max-bytes {MAX_BYTES},{}",
        2 * MAX_BYTES
    );
    let runs = eventually("the log is written", || {
        let runs = simulate(&night.log(), &words);
        (runs[0]["requests"] == requests).then_some(runs)
    });
    let simulated = [0, 1].map(|run: usize| runs[run]["misses"].as_u64().expect("misses"));
    assert_eq!(simulated[0], misses, "as the proxies have counted: {}", runs[0]);
    let enough = runs[0]["enough_bytes"].as_u64().expect("what is enough") as usize;
    assert!((MAX_BYTES..2 * MAX_BYTES).contains(&enough), "{enough} bytes are enough");
    assert_eq!(simulated[1], 3 * ARTICLES, "each proxy misses each document once: {}", runs[1]);
}

fn why_is_it_old(night: &Night) {
    night.data.put("article/1", b"\"new\"");
    let told = night.explain("article/1");
    let copies = told["proxies"].as_array().expect("all proxies");
    let age = |copy: &Value| copy["age_seconds"].as_f64();
    assert!(copies.len() == 3 && copies.windows(2).all(|two| age(&two[0]) >= age(&two[1])), "{told}");
    assert!(copies.iter().all(|copy| copy["cached"] == true && copy["state"] == "fresh"), "{told}");
    assert_eq!(copies[0]["rule"], "flag", "that of --ttl: {told}");
    let lifetime = copies[0]["lifetime_seconds"].as_f64().expect("a lifetime");
    assert!((3_000.0..4_000.0).contains(&lifetime), "{told}");
    assert_eq!(night.client("--purge-soft article/1").1, Some(0));
    until("it is new at every proxy", || {
        (0..3).all(|_| get(night.balancer.address, "article/1")["data"] == "new")
    });
}

fn why_does_it_fail(night: &Night) {
    night.data.put("article/1", b"{\"id\":");
    assert_eq!(night.client("--purge-soft article/1").1, Some(0));
    until("it is served stale", || get(night.balancer.address, "article/1")["stale"] == true);
    let told = night.explain("article/1");
    let copies = told["proxies"].as_array().expect("all proxies");
    let failed = copies.iter().find(|copy| copy["last_error"].is_string());
    let failed = failed.unwrap_or_else(|| panic!("no error in {told}"));
    assert!(failed["last_error"].as_str().is_some_and(|why| why.contains("JSON")), "{told}");
    assert!(failed["tried_again_in_seconds"].is_number() && failed["asked_of"].is_string(), "{told}");
}

fn who_was_told_of_a_purge(night: &mut Night) {
    let dead = night.proxies.remove(0);
    let address = dead.address.to_string();
    dead.kill();
    let (told, code) = night.client("--purge article/*");
    let proxies = told["proxies"].as_object().expect("the proxies");
    let owed: Vec<&String> =
        proxies.iter().filter(|(_, said)| said["owed"] == true).map(|(name, _)| name).collect();
    assert_eq!((proxies.len(), owed, code), (3, vec![&address], Some(1)), "{told}");
    let told = proxies.iter().filter(|(name, _)| **name != address);
    assert!(told.clone().all(|(_, said)| said["purged"].as_u64() > Some(0)), "{proxies:?}");
    let (metrics, _) = night.client("--metrics");
    assert_eq!(metrics["proxies"][&address]["owed_purges"], 1, "{metrics}");
}
