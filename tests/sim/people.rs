//! Who uses the cluster: clients that read, an editor that changes and purges, an auditor that looks when all is at rest.

use std::sync::Arc;
use std::time::Duration;

use dproxy::net::link::Peer;
use dproxy::net::{Link, LinkError, LinkLimits};
use dproxy::wire::{KeyBuf, ReplyView, Request, Status};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cluster::{BALANCERS, FETCH, PORT, Plan, TTL, balancer, proxy};
use crate::world::{KEYS, World, pair, text};
use crate::{AT_REST, CLIENTS_END, FAULTS_END};

const CLIENTS: usize = 3;
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(12);

fn link(host: &str) -> Link {
    Link::new(Peer { host: host.to_owned(), port: PORT }, LinkLimits::default())
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

fn some_key() -> String {
    // Some are asked for far more often than others.
    let (a, b) = (fastrand::u64(..KEYS), fastrand::u64(..KEYS));
    format!("article/{}", a.min(b))
}

async fn pause(most_ms: u64) {
    sleep(Duration::from_millis(fastrand::u64(1..most_ms))).await;
}

/// Puts all of them on the network.
pub(crate) fn clients(sim: &mut turmoil::Sim<'_>, plan: &Plan, world: &Arc<World>) {
    for index in 0..CLIENTS {
        let (world, plan) = (world.clone(), plan.clone());
        sim.client(format!("client{index}"), async move {
            let links: Vec<Link> = (0..BALANCERS).map(|index| link(&balancer(index))).collect();
            while now() < CLIENTS_END {
                let through = fastrand::usize(..BALANCERS);
                read(&world, &plan, &links[through], through).await;
                pause(80).await;
            }
            Ok(())
        });
    }
    let editor = world.clone();
    sim.client("editor", async move {
        let links: Vec<Link> = (0..BALANCERS).map(|index| link(&balancer(index))).collect();
        while now() < CLIENTS_END {
            editor.change(&some_key(), now());
            pause(600).await;
            if fastrand::u8(..3) == 0 {
                let through = fastrand::usize(..BALANCERS);
                purge(&editor, &links[through], through).await;
            }
        }
        Ok(())
    });
    let (auditor, plan) = (world.clone(), plan.clone());
    sim.client("auditor", async move {
        sleep(AT_REST).await;
        audit(&auditor, &plan).await;
        Ok(())
    });
}

/// One GET, and all that must be true of its reply.
async fn read(world: &World, plan: &Plan, link: &Link, through: usize) {
    let path = some_key();
    let key = KeyBuf::parse(path.as_bytes()).expect("a key");
    let (start, floor) = (now(), world.floor(through, &path));
    let deadline = Instant::now() + PATIENCE;
    let asked = match fastrand::bool() {
        true => link.ask(Request::Get(key.as_key()), deadline).await,
        false => link.ask_apart(Request::Get(key.as_key()), deadline).await,
    };
    let told = match &asked {
        Ok(line) => Ok(ReplyView::parse(line).expect("a sound reply, and one only")),
        Err(error) => Err(*error),
    };
    let is_ok = matches!(told, Ok(view) if view.status == Status::Ok);
    world.note_answer(is_ok);
    match told {
        Ok(view) if view.status == Status::Ok => check_document(world, &path, &view, start, floor),
        other => {
            let seen = other.map(|view| (view.status, view.data.to_owned()));
            world.say(|| format!("{path} through lb{through}, asked at {start:?}: {seen:?}"));
            assert!(
                !must_be_ok(world, plan, through, start),
                "{path} asked of lb{through} at {start:?}, answered at {:?} with {seen:?} though a healthy proxy was there",
                now()
            );
        }
    }
}

fn check_document(world: &World, path: &str, view: &ReplyView<'_>, start: Duration, floor: u64) {
    let document: Value = serde_json::from_str(view.data).expect("a document");
    let version = document["version"].as_u64().expect("a version");
    assert_eq!(view.data, text(path, version), "a document is a function of its key and version");
    assert!(version <= world.version(path), "{path}: version {version} is not there yet");
    if let Some(replaced) = world.replaced(path, version)
        && !view.stale
    {
        let limit = TTL + FETCH + Duration::from_millis(500);
        assert!(
            replaced + limit >= start,
            "{path}: version {version}, replaced at {replaced:?}, was seen by who asked at {start:?}"
        );
    }
    assert!(
        version >= floor,
        "{path}: version {version} was seen at {start:?}, and {floor} was purged for before"
    );
}

/// Whether nothing but a document can be excused: a proxy was well and reachable all the time, and so was the origin.
fn must_be_ok(world: &World, plan: &Plan, through: usize, start: Duration) -> bool {
    let whole = |name: &str| world.was_whole(name, start);
    let lb = balancer(through);
    let sees_origin = |index: &usize| whole(&pair(&proxy(*index), "origin"));
    let blind = (0..plan.proxies).filter(|index| !sees_origin(index)).count();
    let well = (0..plan.proxies)
        .filter(|index| sees_origin(index) && whole(&proxy(*index)) && whole(&pair(&lb, &proxy(*index))))
        .count();
    // What another proxy that does not see the origin says may be relayed when two of them say it.
    whole(&lb) && whole("origin") && well > 0 && blind < 2
}

/// Purges one document, or all, and remembers that nothing older may be seen through this balancer.
async fn purge(world: &World, link: &Link, through: usize) {
    let is_all = fastrand::u8(..4) == 0;
    let paths: Vec<String> = match is_all {
        true => (0..KEYS).map(|key| format!("article/{key}")).collect(),
        false => vec![some_key()],
    };
    let line = if is_all { "PURGE article/*".to_owned() } else { format!("PURGE {}", paths[0]) };
    let versions: Vec<u64> = paths.iter().map(|path| world.version(path)).collect();
    let request = Request::parse(line.as_bytes()).expect("a request");
    let answered = link.ask_apart(request, Instant::now() + PATIENCE).await;
    let is_done = match &answered {
        Ok(reply) => {
            let reply: Value = serde_json::from_slice(reply).expect("a reply");
            let proxies = reply["data"]["proxies"].as_object();
            let sound = |told: &Value| told["purged"].is_u64() || told["owed"] == true;
            reply["status"] == "OK" && proxies.is_some_and(|proxies| proxies.values().all(sound))
        }
        Err(_) => false,
    };
    world.say(|| format!("{line} through lb{through}: {answered:?}"));
    // A balancer that crashed since has forgotten what it was told.
    if is_done && world.was_whole(&balancer(through), now()) {
        paths.iter().zip(versions).for_each(|(path, version)| world.purged(through, path, version));
    }
}

async fn metrics(host: &str) -> Result<Value, LinkError> {
    let reply = link(host).ask_apart(Request::Metrics, Instant::now() + PATIENCE).await?;
    let reply: Value = serde_json::from_slice(&reply).expect("a reply");
    Ok(reply["data"].clone())
}

/// All is mended and nobody asks any more: nothing may be left, and the books must balance.
async fn audit(world: &World, plan: &Plan) {
    for index in 0..BALANCERS {
        let told = metrics(&balancer(index)).await.expect("METRICS of a balancer");
        world.say(|| format!("{told}"));
        assert_eq!(told["in_flight"], 0, "{told}");
        let proxies = told["proxies"].as_object().expect("the proxies");
        assert_eq!(proxies.len(), plan.proxies);
        let sum =
            |field: &str| proxies.values().map(|node| node[field].as_f64().unwrap_or(f64::NAN)).sum::<f64>();
        for (name, node) in proxies {
            assert_eq!(node["state"], "healthy", "{name}: {node}");
            assert_eq!((&node["in_flight"], &node["owed_purges"]), (&0.into(), &0.into()), "{name}: {node}");
        }
        let of = |field: &str| told[field].as_f64().expect("a number");
        let (requests, retries, hedges) = (of("total_requests"), of("retries"), of("hedges"));
        assert_eq!((sum("retries"), sum("hedges")), (retries, hedges));
        assert!(
            sum("requests") <= requests + retries + hedges,
            "each is a request, a retry or a hedge: {told}"
        );
        assert!(hedges <= 0.02 * requests + 1.0 && (plan.hedge || hedges == 0.0), "{told}");
        // Those that were refused walk on for free, so this is a bound for all of them.
        assert!(retries <= plan.proxies as f64 * requests, "{told}");
        assert!(of("failures") <= requests, "{told}");
    }
    for index in 0..plan.proxies {
        let told = metrics(&proxy(index)).await.expect("METRICS of a proxy");
        assert_eq!(told["fetches_in_flight"], 0, "{told}");
        let of = |field: &str| told[field].as_u64().expect("a number");
        assert_eq!(of("hits") + of("misses"), of("total_requests"), "{told}");
    }
    assert!(now() > FAULTS_END);
}
