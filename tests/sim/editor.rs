//! The editor changes documents and purges them.

use dproxy::net::Link;
use dproxy::wire::Request;
use serde_json::Value;
use tokio::time::Instant;

use crate::CLIENTS_END;
use crate::cluster::{BALANCERS, balancer};
use crate::judge::some_key;
use crate::readers::{PATIENCE, link, pause};
use crate::world::{KEYS, Owed, World, now};

/// Changes and purges until the clients stop.
pub(crate) async fn edit(world: &World) {
    let links: Vec<Link> = (0..BALANCERS).map(|index| link(&balancer(index))).collect();
    let origin = link("origin");
    while now() < CLIENTS_END {
        let path = some_key();
        world.change(&path);
        world.note(format_args!("{path} is version {}", world.version(&path)));
        if world.plan.told && fastrand::bool() {
            tell(world, &origin, &path).await;
        }
        // Often at once, while a fetch of the old version may be under way.
        if fastrand::bool() {
            let through = fastrand::usize(..BALANCERS);
            purge(world, &links[through], through, path).await;
        }
        pause(300).await;
    }
}

/// Says at the origin that a document has changed, and waits until all proxies know it.
async fn tell(world: &World, origin: &Link, path: &str) {
    let version = world.version(path);
    let line = format!("CHANGED {path} wait=all");
    let request = Request::parse(&line).expect("a request");
    let answered = origin.ask_apart(request, Instant::now() + PATIENCE).await;
    world.note(format_args!("{line}: {answered:?}"));
    if let Ok(reply) = answered {
        let reply: Value = serde_json::from_slice(&reply).expect("a reply");
        assert_eq!(reply["status"], "OK", "{reply}");
        // Whose lease is over goes by times to live, and so does whoever has not heard of the origin yet.
        if reply["data"]["acked"] != world.plan.proxies {
            return;
        }
        world.was_told(path, version);
    }
}

/// Purges one document or all, and records the oldest version allowed from then on.
async fn purge(world: &World, link: &Link, through: usize, path: String) {
    let is_soft = world.plan.soft && fastrand::bool();
    let paths: Vec<String> = match fastrand::u8(..4) {
        0 => (0..KEYS).map(|key| format!("article/{key}")).collect(),
        _ => vec![path],
    };
    let pattern = if paths.len() > 1 { "article/*" } else { &paths[0] };
    let line = format!("PURGE {}{pattern}", if is_soft { "soft " } else { "" });
    let versions: Vec<u64> = paths.iter().map(|path| world.version(path)).collect();
    if is_soft {
        paths.iter().for_each(|path| world.purged_softly(path));
    }
    let request = Request::parse(&line).expect("a request");
    let asked = now();
    let answered = link.ask_apart(request, Instant::now() + PATIENCE).await;
    world.note(format_args!("{line} through lb{through}: {answered:?}"));
    let Some(owed) = answered.ok().and_then(|reply| owes(world, &reply)) else { return };
    // A restarted balancer has forgotten the purges that nodes owe, unless it said that it will not.
    let forgotten = owed == Owed::Here && !world.was_unbroken(&balancer(through), asked);
    if !is_soft && !forgotten {
        paths.iter().zip(versions).for_each(|(path, version)| world.purged(through, path, version, owed));
    }
}

/// Who owes the purge, or will once it is listed again; `None` if the purge failed.
fn owes(world: &World, reply: &[u8]) -> Option<Owed> {
    let reply: Value = serde_json::from_slice(reply).expect("a reply");
    let proxies = reply["data"]["proxies"].as_object()?;
    assert!((1..=world.plan.proxies).contains(&proxies.len()), "{reply}");
    let is_listed = proxies.len() == world.plan.proxies;
    let (mut owed, mut purged) = (false, 0);
    for told in proxies.values() {
        owed |= told["owed"] == true;
        purged += told["purged"].as_u64().unwrap_or(0);
        assert!(told["owed"] == true || told["purged"].is_u64(), "{reply}");
    }
    assert_eq!(reply["data"]["purged"], purged, "{reply}");
    assert_eq!(reply["status"], if owed { "PROXY_UNREACHABLE" } else { "OK" }, "{reply}");
    let is_durable = reply["data"]["durable"] == true;
    assert_eq!(is_durable, owed && world.plan.durable, "{reply}");
    Some(match (is_listed, owed) {
        (true, false) => Owed::Nowhere,
        (true, true) if is_durable => Owed::Durably,
        _ => Owed::Here,
    })
}
