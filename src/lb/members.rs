//! Who the nodes are: names are resolved again and again, a file is watched, and the list is replaced whole.
//!
//! A node that stays keeps its health, counts and connections; one that goes finishes what it was asked. What cannot be
//! read or resolved changes nothing.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::Lb;
use super::balance::hash_of;
use super::list::{Listed, USUAL, parse};
use super::nodes::{Nodes, Place};
use crate::lock::lock;
use crate::net::link::Peer;
use crate::net::{LinkError, transport};
use crate::per_core::PerCore;
use crate::pool;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// And how long after it was found changed: it may be half written.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A name must resolve within this time.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// The largest file that is read.
const LARGEST: u64 = 1 << 20;

/// Where the list of proxies comes from.
#[derive(Clone, Debug)]
pub struct Members {
    /// The proxies, by names or addresses.
    pub proxies: Vec<Peer>,
    /// A file that lists them instead.
    pub file: Option<PathBuf>,
    /// How often names are resolved.
    pub resolve_interval: Duration,
}

/// A node that there should be.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    name: String,
    peer: Peer,
    weight: u32,
}

/// What a file says, or why it could not be read.
type Text = Result<String, String>;

/// The members as they were last known to be.
#[derive(Default)]
struct Known {
    listed: Vec<Listed>,
    /// What the file said when it was last read, good or bad.
    seen: Option<Text>,
    /// What it said at the last look, if that was something else, and when that was written.
    glimpsed: Option<(Text, Option<SystemTime>)>,
    resolved: HashMap<Peer, Vec<IpAddr>>,
    /// Names that could not be resolved when it was last tried: said once, not each time.
    unresolved: HashSet<Peer>,
    wanted: Vec<Wanted>,
}

fn named(peer: &Peer) -> bool {
    peer.host.parse::<IpAddr>().is_err()
}

/// The nodes of one line: a name with several addresses is several nodes, named by their addresses.
fn wanted(listed: &Listed, addresses: Option<&Vec<IpAddr>>) -> Vec<Wanted> {
    let Listed { peer, weight } = listed;
    let whole = |peer: Peer| Wanted { name: listed.peer.to_string(), peer, weight: *weight };
    let at = |address: &IpAddr| Peer { host: address.to_string(), port: peer.port };
    match addresses.map_or(&[][..], Vec::as_slice) {
        [] => vec![whole(peer.clone())],
        // This machine, by both of its families.
        addresses if addresses.iter().all(IpAddr::is_loopback) => vec![whole(peer.clone())],
        [one] => vec![whole(at(one))],
        several => {
            let each = |address| Wanted { name: at(address).to_string(), peer: at(address), weight: *weight };
            several.iter().map(each).collect()
        }
    }
}

/// When a file was last written to.
fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Reads the file that lists the proxies.
fn read(path: &Path) -> Text {
    let (shown, mut text) = (|error: io::Error| error.to_string(), String::new());
    // A pipe may never end, and has to be refused before it is opened.
    if !std::fs::metadata(path).map_err(shown)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    // It may grow while it is read.
    let bounded = std::fs::File::open(path).map_err(shown)?.take(LARGEST + 1);
    match BufReader::new(bounded).read_to_string(&mut text).map_err(shown)? as u64 > LARGEST {
        true => Err("it is larger than 1 MiB".to_owned()),
        false => Ok(text),
    }
}

impl Members {
    fn given(&self) -> Vec<Listed> {
        self.proxies.iter().map(|peer| Listed { peer: peer.clone(), weight: USUAL }).collect()
    }

    /// The list at the start; an error names the file and what is wrong with it.
    pub(super) fn first(&self) -> Result<Vec<Listed>, String> {
        match &self.file {
            None => Ok(self.given()),
            Some(path) => listed_in(&read(path)).map_err(|error| format!("{}: {error}", path.display())),
        }
    }
}

fn listed_in(text: &Text) -> Result<Vec<Listed>, String> {
    parse(text.as_ref()?).map_err(|error| error.to_string())
}

impl Lb {
    /// Puts the first list in place.
    pub(super) fn begin_with(&self, listed: &[Listed]) {
        let wanted: Vec<Wanted> = listed.iter().flat_map(|listed| wanted(listed, None)).collect();
        self.replace(&wanted, true);
    }

    /// Follows the members, for ever. [`Lb::reload`] makes it look at once.
    pub async fn follow(self: Arc<Self>) {
        let mut known = Known::default();
        if self.config.members.file.is_none() {
            known.listed = self.config.members.given();
        }
        let mut resolved_at: Option<Instant> = None;
        let mut is_told = true;
        loop {
            let mut lost = Vec::new();
            let mut changed = self.read_file(&mut known, is_told).await;
            let names = known.listed.iter().any(|listed| named(&listed.peer));
            let is_due = resolved_at.is_none_or(|at| at.elapsed() >= self.config.members.resolve_interval);
            if names && (is_due || changed) {
                lost = resolve(&mut known).await;
                resolved_at = Some(Instant::now());
                changed = true;
            }
            if changed {
                self.update(&mut known);
                self.lose(&lost);
            }
            if !names && self.config.members.file.is_none() {
                // Addresses given on the command line stay what they are.
                return;
            }
            let pause = if known.glimpsed.is_some() { LOOK_AGAIN } else { LOOK };
            let pause = pause.min(self.config.members.resolve_interval);
            is_told = timeout(pause, self.reload.notified()).await.is_ok();
        }
    }

    /// Looks at the file now.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Reads the file; true when it lists others than before. What is wrong with it is said once.
    ///
    /// A file that is being written holds a part of a list, which may look like a whole one: unless it `is_told` that the
    /// file is ready, what it finds has to be there twice.
    async fn read_file(&self, known: &mut Known, is_told: bool) -> bool {
        let Some(path) = self.config.members.file.clone() else { return false };
        let shown = path.display().to_string();
        let read = pool::run(move || (written(&path), read(&path))).await;
        let (written, text) = read.unwrap_or_else(|_| (None, Err("the read was cut short".to_owned())));
        let before = known.glimpsed.take();
        if known.seen.as_ref() == Some(&text) {
            return false;
        }
        let glimpsed = (text, written);
        if !is_told && before.as_ref() != Some(&glimpsed) {
            known.glimpsed = Some(glimpsed);
            return false;
        }
        let text = known.seen.insert(glimpsed.0);
        match listed_in(text) {
            Ok(listed) => std::mem::replace(&mut known.listed, listed.clone()) != listed,
            Err(error) => {
                warn!(file = shown, error, "the list of proxies is bad; the one before stays");
                false
            }
        }
    }

    /// Nodes whose names have no address are down: nothing but a poll that succeeds would say otherwise.
    fn lose(&self, lost: &[Peer]) {
        let now = self.now();
        for place in self.nodes.load().iter().filter(|place| lost.contains(place.node.link().peer())) {
            place.node.change(now, |health| health.lost(&LinkError::Unresolved.to_string(), now));
        }
    }

    fn update(&self, known: &mut Known) {
        let mut all: Vec<Wanted> = Vec::new();
        for wanted in known.listed.iter().flat_map(|listed| wanted(listed, known.resolved.get(&listed.peer)))
        {
            if all.iter().all(|other| other.peer != wanted.peer && other.name != wanted.name) {
                all.push(wanted);
            }
        }
        if all != known.wanted {
            self.replace(&all, false);
            known.wanted = all;
        }
    }

    /// Replaces the list. Requests under way hold their nodes, which end with the last of them.
    fn replace(&self, wanted: &[Wanted], is_first: bool) {
        // Held until the list is replaced: a purge goes to the nodes of the new list, or a node that joins owes it.
        let purges = lock(&self.purges);
        let old = self.nodes.load_full();
        let find = |peer: &Peer| old.iter().find(|place| place.node.link().peer() == peer);
        let any_stays = wanted.iter().any(|wanted| find(&wanted.peer).is_some());
        let place = |wanted: &Wanted| {
            let node = find(&wanted.peer).map(|place| place.node.clone()).unwrap_or_else(|| {
                let node = self.node(wanted.peer.clone());
                if !is_first {
                    info!(node = wanted.name, "the node joins");
                    node.owe(|owed| *owed = purges.clone());
                }
                if any_stays {
                    node.join(self.now());
                }
                node
            });
            let id = hash_of(wanted.name.as_bytes());
            let held = PerCore::new(self.wheels.count(), || Arc::new(node.clone()));
            Place { name: wanted.name.as_str().into(), id, weight: wanted.weight, node, held }
        };
        let nodes = Nodes(wanted.iter().map(place).collect());
        for gone in old.iter().filter(|old| nodes.iter().all(|new| new.node.identity != old.node.identity)) {
            info!(node = &*gone.name, in_flight = gone.node.in_flight(), "the node leaves");
        }
        self.nodes.store(Arc::new(nodes));
        drop(purges);
        self.count_probing();
    }
}

/// Resolves all names at once. What cannot be resolved stays what it was; the names that were never resolved and begin to
/// fail now come back.
async fn resolve(known: &mut Known) -> Vec<Peer> {
    let names: Vec<Peer> = known.listed.iter().map(|listed| listed.peer.clone()).filter(named).collect();
    known.resolved.retain(|peer, _| names.contains(peer));
    known.unresolved.retain(|peer| names.contains(peer));
    let answers = join_all(names.iter().map(addresses_of)).await;
    let mut lost = Vec::new();
    for (peer, answer) in names.into_iter().zip(answers) {
        match answer {
            Ok(addresses) => {
                if known.unresolved.remove(&peer) {
                    info!(%peer, "the name is resolved again");
                }
                known.resolved.insert(peer, addresses);
            }
            Err(error) if known.unresolved.insert(peer.clone()) => match known.resolved.get(&peer) {
                Some(_) => warn!(%peer, error, "the name cannot be resolved; what it had stays"),
                None => {
                    warn!(%peer, error, "the name cannot be resolved");
                    lost.push(peer);
                }
            },
            Err(_) => {}
        }
    }
    lost
}

/// The addresses of a name, in order; one at least.
async fn addresses_of(peer: &Peer) -> Result<Vec<IpAddr>, String> {
    let resolved = timeout(RESOLVE_DEADLINE, transport::resolve(&peer.host, peer.port)).await;
    let mut addresses = resolved.map_err(|_| "no answer in time")?.map_err(|error| error.to_string())?;
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(peer: &str, addresses: &[&str]) -> Vec<String> {
        let listed = Listed { peer: peer.parse().unwrap(), weight: USUAL };
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let wanted = wanted(&listed, Some(&addresses));
        wanted.into_iter().map(|wanted| format!("{} {}", wanted.name, wanted.peer)).collect()
    }

    #[test]
    fn a_name_is_as_many_nodes_as_it_has_addresses() {
        assert_eq!(names("p:1", &[]), ["p:1 p:1"]);
        assert_eq!(names("p:1", &["10.0.0.1"]), ["p:1 10.0.0.1:1"]);
        assert_eq!(
            names("p:1", &["10.0.0.1", "fd00::1"]),
            ["10.0.0.1:1 10.0.0.1:1", "[fd00::1]:1 [fd00::1]:1"]
        );
        assert_eq!(names("localhost:1", &["127.0.0.1", "::1"]), ["localhost:1 localhost:1"]);
    }
}
