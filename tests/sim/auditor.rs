//! The auditor runs after all faults and requests have ended: nothing may be left, and the counts must agree.

use std::time::Duration;

use dproxy::wire::{ReplyView, Request, Status};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::AT_REST;
use crate::cluster::{BALANCERS, Lack, PORT, balancer, proxy};
use crate::judge::Asked;
use crate::ledger::Life;
use crate::readers::{PATIENCE, link, plain};
use crate::world::{KEYS, World, is_gone, now, text};

/// Hosts stop within this time.
const STOP: Duration = Duration::from_secs(10);

/// Runs when the cluster is at rest.
pub(crate) async fn audit(world: &World) {
    sleep(AT_REST.saturating_sub(now())).await;
    for index in 0..BALANCERS {
        balance(world, index).await;
    }
    let mut watchers = 0;
    for index in 0..world.plan.proxies {
        watchers += usize::from(watches(world, &proxy(index)).await);
    }
    assert_eq!(world.ledger.connections("origin"), watchers, "nobody asks the origin but for changes");
    for index in 0..world.plan.proxies {
        count(world, &proxy(index)).await;
    }
    world.ledger.check_budgets(world);
    // Others are answered all the time, so few of the late ones can have been the only ones under way.
    let lives: Vec<_> = (0..world.plan.proxies).map(|index| world.ledger.life(&proxy(index))).collect();
    let late = |of: fn(&Life) -> u64| lives.iter().map(of).sum::<u64>();
    let (documents, origin) = (late(|life| life.late_documents), late(|life| life.late_origin));
    let blames = format!("late documents were blamed {documents} times, the origin {origin} times");
    world.record.say(|| blames.clone());
    assert!(documents >= origin || origin < 10, "{blames}");
    for key in 0..KEYS {
        serves_what_is_true(world, &format!("article/{key}")).await;
    }
    for index in 0..BALANCERS {
        forgives(world, &balancer(index)).await;
    }
    stop(world).await;
}

/// Whether a proxy hears of changes. It need not where nobody tells of any, before it has fetched a document, and for a while
/// after its link was too slow for a session.
async fn watches(world: &World, host: &str) -> bool {
    let told = metrics(host).await.expect("METRICS");
    let state = &told["push"]["state"];
    let is_live = state == "live";
    assert!(if is_live { world.plan.told } else { state == "off" }, "{host}: {told}");
    is_live
}

/// METRICS of a host; `None` if it is unreachable.
pub(crate) async fn metrics(host: &str) -> Option<Value> {
    let reply = link(host).ask_apart(Request::Metrics, Instant::now() + PATIENCE).await.ok()?;
    let reply: Value = serde_json::from_slice(&reply).expect("a reply");
    Some(reply["data"].clone())
}

/// The counts of a balancer.
async fn balance(world: &World, index: usize) {
    let host = &*balancer(index);
    let told = metrics(host).await.expect("METRICS");
    let life = world.ledger.life(host);
    world.record.say(|| format!("{host}: {life:?} {told}"));
    let proxies = told["proxies"].as_object().expect("the proxies");
    assert_eq!(proxies.len(), world.plan.proxies);
    for (name, node) in proxies {
        assert_eq!(node["state"], "healthy", "{name}: {node}");
        assert_eq!((&node["in_flight"], &node["owed_purges"]), (&0.into(), &0.into()), "{name}: {node}");
        // A proxy without a port to the origin fails what others serve.
        let may_err = world.plan.calm != Some(Lack::Downstream);
        assert!(may_err || node["errors"] == 0, "{host} blames {name}, which is well: {node}");
    }
    let of = |field: &str| told[field].as_u64().expect("a number");
    let sum = |field: &str| proxies.values().map(|node| node[field].as_u64().expect("a number")).sum::<u64>();
    let (requests, retries, hedges) = (of("total_requests"), of("retries"), of("hedges"));
    let trials = of("trials");
    assert_eq!((of("in_flight"), life.under_way), (0, 0), "{told}");
    assert_eq!(requests, life.asked, "{life:?} {told}");
    // A document that nobody can serve is no failure of the cluster, but it may not even come to that.
    let failures = life.failed..=life.failed + life.troubled;
    assert!(failures.contains(&of("failures")), "{life:?} {told}");
    let (nodes, all) = ((sum("retries"), sum("hedges")), (retries, hedges));
    let is_whole = nodes == all || (world.roster.has_changed(index) && nodes.0 <= all.0 && nodes.1 <= all.1);
    assert!(is_whole, "{told}");
    let beyond = world.ledger.beyond(host);
    assert!(beyond <= retries + hedges, "{beyond} tries of {host} were second ones: {told}");
    let open = world.ledger.connections(host);
    assert!(open <= 1, "{host} has {open} connections beside this audit's own");
    // A GET without a single try was not sent.
    assert!(sum("requests") <= requests + retries + hedges + trials, "{told}");
    // One of fifty requests, and one a second, of which those of a window may come at once.
    let most = 0.02 * requests as f64 + world.ledger.age(host).as_secs_f64() + 11.0;
    assert!(hedges as f64 <= most && (world.plan.hedge || hedges == 0), "{told}");
}

/// The counts of a proxy.
async fn count(world: &World, host: &str) {
    let told = metrics(host).await.expect("METRICS");
    let life = world.ledger.life(host);
    world.record.say(|| format!("{host}: {life:?} {told}"));
    let of = |field: &str| told[field].as_u64().expect("a number");
    assert_eq!((of("fetches_in_flight"), life.under_way), (0, 0), "{told}");
    assert_eq!(of("hits") + of("misses"), life.answered, "{life:?} {told}");
    assert_eq!(of("total_requests"), life.answered, "{told}");
    assert!(of("entries") <= world.plan.entries as u64, "{told}");
    assert_eq!(of("purges_waiting"), 0, "every walk has ended: {told}");
    // Polls under way, and the request of this audit.
    let open = world.ledger.connections(host);
    assert!(open <= BALANCERS + 1, "{host} has {open} connections");
}

/// Long after the last change every proxy and balancer serves the current document.
async fn serves_what_is_true(world: &World, path: &str) {
    for through in 0..BALANCERS {
        let asked = Asked::of(world, through, path.to_owned());
        let told = plain(&balancer(through), path).await;
        asked.told(world, told.as_ref().map(|line| &line[..]).map_err(Clone::clone));
    }
    let version = world.version(path);
    for index in 0..world.plan.proxies {
        let line = plain(&proxy(index), path).await.expect("a reply");
        let view = ReplyView::parse(&line).expect("a sound reply");
        let told = (view.status, view.data.to_owned());
        let truth = match is_gone(version) {
            true => (Status::NotFound, "null".to_owned()),
            false => (Status::Ok, text(path, version)),
        };
        assert!(
            view.stale && !world.plan.told || told == truth,
            "{path} from proxy{index}: {told:?}, and {truth:?} is true"
        );
    }
}

/// A proxy that has just replied has no failures in a row.
async fn forgives(world: &World, host: &str) {
    let told = metrics(host).await.expect("METRICS");
    for index in 0..world.plan.proxies {
        let node = &told["proxies"][format!("{}:{PORT}", proxy(index))];
        let has_answered = world.ledger.was_relied_on(host, &proxy(index), AT_REST);
        assert!(!has_answered || node["failures_in_a_row"] == 0, "{host}: proxy{index}: {node}");
    }
}

/// Stops all hosts: every connection ends by itself, and no reference to a role is left.
async fn stop(world: &World) {
    world.stop.cancel();
    let hosts = 1 + BALANCERS + world.plan.proxies;
    let until = now() + STOP;
    while world.ledger.all_stopped().len() < hosts {
        assert!(now() < until, "not all hosts have stopped: {:?}", world.ledger.all_stopped());
        sleep(Duration::from_millis(20)).await;
    }
    for (host, stopped) in world.ledger.all_stopped() {
        assert!(stopped.drained && stopped.holders == 0, "{host}: {stopped:?}");
    }
}
