//! Proves that proxies which die, stop or come back cost the balancer's clients no error, and that it recovers by itself.

use std::time::Duration;

use crate::support::cluster::{Cluster, DOCUMENTS, POLLS, proxy};
use crate::support::load::Load;
use crate::support::node::own_host;
use crate::support::{Address, Data, Node, PATIENCE, Session, Start, get, heavy, status_of, timed, until};

fn kill_one_under_load(words: &str, load: impl Fn(Address, u64) -> Load) {
    let _alone = heavy();
    let mut cluster = Cluster::start(words);
    let load = load(cluster.balancer.address, DOCUMENTS);
    load.go_on(200);
    let address = cluster.kill(1);
    cluster.await_health(address, false);
    load.go_on(300);
    cluster.restart(address);
    cluster.await_health(address, true);
    let back = &cluster.proxies[2];
    until("it gets its share again", || back.count("total_requests") >= 50.0);
    let (asked, _) = load.end_without_errors();
    let share = back.count("total_requests");
    assert!(share <= asked as f64, "{share} of {asked}");
}

#[test]
fn kill_9_of_one_of_three_under_plain_load() {
    kill_one_under_load("--strategy round_robin", Load::plain);
}

#[test]
fn kill_9_of_one_of_three_under_a_load_of_sessions() {
    kill_one_under_load("--strategy least_loaded", Load::sessions);
}

#[test]
fn kill_9_of_one_after_the_other() {
    let _alone = heavy();
    let mut cluster = Cluster::start("");
    let load = Load::plain(cluster.balancer.address, DOCUMENTS);
    for _ in 0..3 {
        let address = cluster.kill(0);
        cluster.await_health(address, false);
        load.go_on(50);
        cluster.restart(address);
        cluster.await_health(address, true);
        load.go_on(50);
    }
    load.end_without_errors();
}

#[test]
fn a_proxy_that_is_stopped_under_load() {
    let _alone = heavy();
    // A try that runs into its deadline makes the answer a slow one.
    let cluster = Cluster::start("--try-deadline 1200ms --connect-deadline 1s");
    let load = Load::plain(cluster.balancer.address, DOCUMENTS);
    load.go_on(100);
    let frozen = &cluster.proxies[0];
    frozen.signal("STOP");
    cluster.await_health(frozen.address, false);
    load.go_on(300);
    frozen.signal("CONT");
    cluster.await_health(frozen.address, true);
    load.go_on(100);
    let (asked, slow) = load.end_without_errors();
    // No more than those in flight while the failures that mark it were counted, and some for a loaded machine.
    assert!(slow <= asked / 10, "{slow} of {asked} answers were slow");
}

#[test]
fn a_proxy_that_is_stopped_costs_a_session_no_error() {
    let cluster = Cluster::start("--try-deadline 500ms --connect-deadline 500ms");
    let mut session = Session::open(cluster.balancer.address);
    for id in 0..10 {
        assert_eq!(status_of(&session.ask(id, "GET article/1")), "OK");
    }
    cluster.proxies[2].signal("STOP");
    for id in 10..30 {
        let reply = session.ask(id, &format!("GET article/{}", id % DOCUMENTS + 1));
        assert_eq!(status_of(&reply), "OK", "{reply}");
    }
    cluster.proxies[2].signal("CONT");
}

#[test]
fn all_proxies_down_and_back() {
    let mut cluster = Cluster::start("");
    let balancer = cluster.balancer.address;
    let addresses = [(); 3].map(|()| cluster.kill(0));
    let refused = |reply: &str| ["PROXY_ERROR", "PROXY_UNREACHABLE"].contains(&reply);
    for _ in 0..10 {
        let (took, reply) = timed(|| get(balancer, "article/1"));
        assert!(refused(reply["status"].as_str().unwrap_or_default()), "{reply}");
        assert!(reply["data"].is_string(), "it says why: {reply}");
        assert!(took < Duration::from_secs(10), "an error at once, not after {took:?}");
    }
    for &address in &addresses {
        cluster.await_health(address, false);
    }
    let reply = get(balancer, "article/1");
    assert!(refused(reply["status"].as_str().unwrap_or_default()), "{reply}");
    let metrics = cluster.balancer.metrics();
    assert_eq!((&metrics["in_flight"], &metrics["cluster"]["healthy"]), (&0.into(), &0.into()), "{metrics}");
    for address in addresses {
        let node = &metrics["proxies"][address.to_string()];
        assert_eq!((&node["state"], &node["in_flight"]), (&"down".into(), &0.into()), "{node}");
        assert!(node["why"].as_str().is_some_and(|why| !why.is_empty()), "{node}");
    }
    addresses.iter().for_each(|&address| cluster.restart(address));
    until("it serves without a restart", || get(balancer, "article/1")["status"] == "OK");
    for &address in &addresses {
        cluster.await_health(address, true);
    }
    assert!((0..20).all(|_| get(balancer, "article/1")["status"] == "OK"));
}

#[test]
fn a_balancer_that_starts_before_its_proxies() {
    let data = Data::articles(1);
    let host = own_host();
    let origin = Start::origin(data.path(), "").run();
    // Takes a port and gives it back: nobody else uses this host.
    let address = proxy(&origin, Address((host, 0).into())).address;
    let balancer = Start::balancer(&[address], POLLS).run();
    assert_ne!(get(balancer.address, "article/1")["status"], "OK");
    let _proxy = proxy(&origin, address);
    until("it serves", || get(balancer.address, "article/1")["status"] == "OK");
}

#[test]
fn an_origin_that_dies_and_comes_back() {
    let cluster = Cluster::start("");
    let Cluster { data, origin, proxies, balancer, .. } = &cluster;
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    origin.signal("KILL");
    until("the origin is gone", || origin.address.connect().is_err());
    let (took, reply) = timed(|| get(balancer.address, "article/2"));
    assert_eq!(reply["status"], "ORIGIN_FAILURE", "{reply}");
    assert!(took < PATIENCE / 2, "{took:?}");
    let healthy = |proxy: &Node| balancer.holds_healthy(proxy.address);
    let words = format!("--host {} --port {}", origin.address.host(), origin.port());
    let _origin = Start::origin(data.path(), &words).run();
    until("documents come again", || get(balancer.address, "article/2")["status"] == "OK");
    assert!(proxies.iter().all(healthy), "an origin that is away is no failure of the proxies");
}
