//! Proxies that die, freeze or come back cost the clients of a balancer no error; the balancer recovers by itself.

use std::time::Duration;

use crate::support::cluster::{Cluster, DOCUMENTS, POLLS, proxy};
use crate::support::load::Load;
use crate::support::node::own_host;
use crate::support::{Address, Data, Node, PATIENCE, Session, Start, get, heavy, status_of, timed, until};

/// What happens to the proxies of a cluster while clients send requests.
type Fault = fn(&mut Cluster, &Load);

/// Clients of this address that request this number of documents.
type Clients = fn(Address, u64) -> Load;

/// The name of the fault, the strategy of the balancer, the clients, and the fault.
type Row = (&'static str, &'static str, Clients, Fault);

const FAULTS: [Row; 6] = [
    ("kill -9 of one of three, plain", "round_robin", Load::plain, kill_one),
    ("kill -9 of one of three, sessions", "least_loaded", Load::sessions, kill_one),
    ("kill -9 of two of three", "p2c", Load::sessions, kill_two),
    ("kill -9 of one after the other", "round_robin", Load::plain, kill_each),
    ("a graceful restart of one after the other", "hash", Load::plain, restart_each),
    ("one proxy flaps", "least_loaded", Load::sessions, flap),
];

/// The thread of a row has its name, so that a failure shows the row.
#[test]
fn no_client_sees_an_error_when_proxies_die_and_come_back() {
    let _alone = heavy();
    for (name, strategy, load, fault) in FAULTS {
        let row = move || {
            let mut cluster = Cluster::start(&format!("--strategy {strategy}"));
            let load = load(cluster.balancer.address, DOCUMENTS);
            load.go_on(100);
            fault(&mut cluster, &load);
            load.go_on(100);
            let (asked, _) = load.end_without_errors();
            for proxy in &cluster.proxies {
                let share = proxy.count("total_requests");
                assert!(share <= asked as f64, "{share} requests at one proxy of {asked} in all");
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(row).expect("a thread");
        assert!(thread.join().is_ok(), "{name}");
    }
}

fn kill_one(cluster: &mut Cluster, load: &Load) {
    let address = cluster.kill(1);
    cluster.await_health(address, false);
    load.go_on(300);
    cluster.restart(address);
    cluster.await_health(address, true);
    let back = &cluster.proxies[2];
    until("it gets its share again", || back.count("total_requests") >= 50.0);
}

fn kill_two(cluster: &mut Cluster, load: &Load) {
    let dead = [(); 2].map(|()| cluster.kill(0));
    load.go_on(300);
    dead.iter().for_each(|&address| cluster.await_health(address, false));
    dead.iter().for_each(|&address| cluster.restart(address));
    dead.iter().for_each(|&address| cluster.await_health(address, true));
}

fn kill_each(cluster: &mut Cluster, load: &Load) {
    for _ in 0..3 {
        let address = cluster.kill(0);
        cluster.await_health(address, false);
        load.go_on(50);
        cluster.restart(address);
        cluster.await_health(address, true);
        load.go_on(50);
    }
}

fn restart_each(cluster: &mut Cluster, load: &Load) {
    for _ in 0..3 {
        let mut old = cluster.proxies.remove(0);
        load.go_on(60);
        old.signal("TERM");
        assert!(old.ended().success());
        cluster.restart(old.address);
        cluster.await_health(old.address, true);
    }
}

fn flap(cluster: &mut Cluster, load: &Load) {
    let address = cluster.proxies[2].address;
    for _ in 0..4 {
        load.go_on(100);
        cluster.kill(2);
        load.go_on(100);
        cluster.restart(address);
    }
    cluster.await_health(address, true);
}

#[test]
fn a_frozen_proxy_costs_no_error_and_few_slow_replies() {
    let _alone = heavy();
    // Longer than a second: a try that meets its deadline makes its reply a slow one.
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
    // Those in flight while its failures were counted, and some more on a loaded machine.
    assert!(slow <= asked / 10, "{slow} of {asked} answers were slow");
}

#[test]
fn a_frozen_proxy_costs_a_session_no_error() {
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
fn without_proxies_the_error_comes_at_once_and_the_balancer_recovers() {
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
fn a_balancer_may_start_before_its_proxies() {
    let data = Data::articles(1);
    let host = own_host();
    let origin = Start::origin(data.path(), "").run();
    // Binds a port and frees it: no other test uses this host.
    let address = proxy(&origin, Address((host, 0).into())).address;
    let balancer = Start::balancer(&[address], POLLS).run();
    assert_ne!(get(balancer.address, "article/1")["status"], "OK");
    let _proxy = proxy(&origin, address);
    until("it serves", || get(balancer.address, "article/1")["status"] == "OK");
}

#[test]
fn a_dead_origin_is_no_failure_of_the_proxies() {
    let cluster = Cluster::start("");
    let Cluster { data, origin, proxies, balancer, .. } = &cluster;
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    origin.signal("KILL");
    until("the origin is closed", || origin.address.connect().is_err());
    let (took, reply) = timed(|| get(balancer.address, "article/2"));
    assert_eq!(reply["status"], "ORIGIN_FAILURE", "{reply}");
    assert!(took < PATIENCE / 2, "{took:?}");
    let healthy = |proxy: &Node| balancer.holds_healthy(proxy.address);
    let words = format!("--host {} --port {}", origin.address.host(), origin.port());
    let _origin = Start::origin(data.path(), &words).run();
    until("documents are served again", || get(balancer.address, "article/2")["status"] == "OK");
    assert!(proxies.iter().all(healthy), "a dead origin is no failure of the proxies");
}
