//! Where the list of nodes comes from: names that are resolved again and again, or a file that is watched.
//!
//! A file that cannot be read and a name that cannot be resolved change nothing.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::config::Members;
use super::list::{Listed, USUAL, parse};
use super::list_file::{FileText, read, written};
use super::members::Wanted;
use super::upstreams::Upstreams;
use crate::net::link::Peer;
use crate::net::transport;
use crate::pool;

/// The time between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);
/// The time until the second look at a file that has changed: it may be half written.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The deadline for resolving one name.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

impl Members {
    /// The proxies of the command line; of one that is named twice, once, as in a file.
    fn given(&self) -> Vec<Listed> {
        let mut given: Vec<Listed> = Vec::new();
        for peer in &self.proxies {
            if given.iter().all(|other| other.peer != *peer) {
                given.push(Listed { peer: peer.clone(), weight: USUAL, drained: false });
            }
        }
        given
    }

    /// The list at the start; an error names the file and what is wrong with it.
    pub(super) fn first(&self) -> Result<Vec<Listed>, String> {
        match &self.file {
            None => Ok(self.given()),
            Some(path) => listed_in(&read(path)).map_err(|error| format!("{}: {error}", path.display())),
        }
    }
}

/// The nodes of a list whose names are not resolved yet.
pub(super) fn unresolved(listed: &[Listed]) -> Vec<Wanted> {
    listed.iter().flat_map(|listed| wanted(listed, None)).collect()
}

/// Keeps the list of nodes up to date.
pub(super) struct Follower {
    config: Members,
    upstreams: Arc<Upstreams>,
    /// The list at the start, which is in force already.
    first: Vec<Listed>,
    /// Brings the next look at the file forward.
    reload: Notify,
}

/// What the follower knows of the members.
#[derive(Default)]
struct Known {
    listed: Vec<Listed>,
    /// The content of the file when it was last taken over, good or bad.
    seen: Option<FileText>,
    /// A new content that was seen once, and when the file was written.
    glimpsed: Option<(FileText, Option<SystemTime>)>,
    resolved: HashMap<Peer, Vec<IpAddr>>,
    /// Names whose last look-up failed: a failure is logged once, not at each look-up.
    unresolved: HashSet<Peer>,
    wanted: Vec<Wanted>,
}

fn is_name(peer: &Peer) -> bool {
    peer.host.parse::<IpAddr>().is_err()
}

/// The nodes of one line of the list: a name with several addresses is several nodes, named by their addresses.
fn wanted(listed: &Listed, addresses: Option<&Vec<IpAddr>>) -> Vec<Wanted> {
    let Listed { peer, weight, drained } = listed;
    let whole = |at: Peer| Wanted {
        name: peer.to_string(),
        listed: peer.clone(),
        peer: at,
        weight: *weight,
        drained: *drained,
    };
    let at = |address: &IpAddr| Peer { host: address.to_string(), port: peer.port };
    match addresses.map_or(&[][..], Vec::as_slice) {
        [] => vec![whole(peer.clone())],
        // `localhost`: its IPv4 and its IPv6 address are one node.
        addresses if addresses.iter().all(IpAddr::is_loopback) => vec![whole(peer.clone())],
        [one] => vec![whole(at(one))],
        several => {
            let each = |address| Wanted { name: at(address).to_string(), ..whole(at(address)) };
            several.iter().map(each).collect()
        }
    }
}

fn listed_in(text: &FileText) -> Result<Vec<Listed>, String> {
    parse(text.as_ref()?)
}

impl Follower {
    pub(super) fn new(config: Members, upstreams: Arc<Upstreams>, first: Vec<Listed>) -> Self {
        Self { config, upstreams, first, reload: Notify::new() }
    }

    /// Follows the members, for ever. Returns when they cannot change: addresses, and no file.
    pub(super) async fn run(&self) {
        let mut known = Known { listed: self.first.clone(), ..Known::default() };
        let mut resolved_at: Option<Instant> = None;
        // The file may be half written by now: nobody has said that it is ready.
        let mut is_asked = false;
        loop {
            let mut lost = Vec::new();
            let mut changed = self.read_file(&mut known, is_asked).await;
            let names = known.listed.iter().any(|listed| is_name(&listed.peer));
            let is_due = resolved_at.is_none_or(|at| at.elapsed() >= self.config.resolve_interval);
            if names && (is_due || changed) {
                lost = resolve(&mut known).await;
                resolved_at = Some(Instant::now());
                changed = true;
            }
            if changed {
                self.update(&mut known);
                self.upstreams.members.lose(&lost);
            }
            if !names && self.config.file.is_none() {
                return;
            }
            let pause = if known.glimpsed.is_some() { LOOK_AGAIN } else { LOOK };
            let pause = pause.min(self.config.resolve_interval);
            is_asked = timeout(pause, self.reload.notified()).await.is_ok();
        }
    }

    /// Looks at the file now.
    pub(super) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Reads the file; true when its list has changed. What is wrong with it is logged once.
    ///
    /// A half-written file may look like a whole one. So a new content is taken over when two looks find the same, or at
    /// once if a person asked for the look and so says that the file is ready.
    async fn read_file(&self, known: &mut Known, is_asked: bool) -> bool {
        let Some(path) = self.config.file.clone() else { return false };
        let shown = path.display().to_string();
        let read = pool::run(move || (written(&path), read(&path))).await;
        let (written, text) = read.unwrap_or_else(|_| (None, Err("the read was cut short".to_owned())));
        let before = known.glimpsed.take();
        if known.seen.as_ref() == Some(&text) {
            return false;
        }
        let glimpsed = (text, written);
        if !is_asked && before.as_ref() != Some(&glimpsed) {
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

    fn update(&self, known: &mut Known) {
        let mut all: Vec<Wanted> = Vec::new();
        for wanted in known.listed.iter().flat_map(|listed| wanted(listed, known.resolved.get(&listed.peer)))
        {
            if all.iter().all(|other| other.peer != wanted.peer && other.name != wanted.name) {
                all.push(wanted);
            }
        }
        if all != known.wanted {
            self.upstreams.members.replace(&all);
            known.wanted = all;
        }
    }
}

/// Resolves all names at once. A name whose look-up fails keeps its addresses; returned are the names that have none and
/// whose look-ups begin to fail now.
async fn resolve(known: &mut Known) -> Vec<Peer> {
    let names: Vec<Peer> = known.listed.iter().map(|listed| listed.peer.clone()).filter(is_name).collect();
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
    let addresses = resolved.map_err(|_| "no answer in time")?.map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(peer: &str, addresses: &[&str]) -> Vec<String> {
        let listed = Listed { peer: peer.parse().unwrap(), weight: USUAL, drained: false };
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
