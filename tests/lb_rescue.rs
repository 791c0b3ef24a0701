//! While one proxy lives no client of a balancer gets an error, although the balancer did not know yet that it lives.

use std::time::Duration;

use crate::support::cluster::{Cluster, DOCUMENTS};
use crate::support::load::Load;
use crate::support::{get, heavy, timed};

/// The balancer learns late that a proxy came back: only after many polls.
const LATE: &str = "--rises 10";

#[test]
fn the_last_known_proxy_dies_right_after_another_came_back() {
    let _alone = heavy();
    for strategy in ["round_robin", "hash"] {
        let mut cluster = Cluster::start(&format!("--strategy {strategy} {LATE}"));
        let load = Load::plain(cluster.balancer.address, DOCUMENTS);
        load.go_on(100);
        let away = [cluster.kill(0), cluster.kill(0)];
        away.iter().for_each(|&address| cluster.await_health(address, false));
        cluster.restart(away[0]);
        load.go_on(30);
        let last = cluster.kill(0);
        load.go_on(300);
        load.end_without_errors();
        cluster.restart(last);
    }
}

#[test]
fn one_of_three_proxies_lives_at_any_time() {
    let _alone = heavy();
    let mut random = fastrand::Rng::with_seed(12);
    for load in [Load::plain, Load::sessions] {
        let mut cluster = Cluster::start(LATE);
        let load = load(cluster.balancer.address, DOCUMENTS);
        let mut away = Vec::new();
        for _ in 0..40 {
            load.go_on(random.u64(5..80));
            if !away.is_empty() && (away.len() == 2 || random.bool()) {
                cluster.restart(away.swap_remove(random.usize(..away.len())));
            } else {
                away.push(cluster.kill(random.usize(..cluster.proxies.len())));
            }
        }
        load.end_without_errors();
    }
}

#[test]
fn when_no_proxy_lives_the_error_comes_when_all_checks_have_failed() {
    let mut cluster = Cluster::start(&format!("{LATE} --try-deadline 1m"));
    let addresses = [(); 3].map(|()| cluster.kill(0));
    for round in 0..12 {
        let (took, reply) = timed(|| get(cluster.balancer.address, "article/1"));
        let status = reply["status"].as_str().unwrap_or_default();
        assert!(["PROXY_ERROR", "PROXY_UNREACHABLE"].contains(&status), "{reply}");
        assert!(took < Duration::from_secs(5), "error {round} after {took:?}");
    }
    cluster.restart(addresses[2]);
    assert_eq!(get(cluster.balancer.address, "article/1")["status"], "OK", "its first request after that");
}
