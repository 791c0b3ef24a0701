//! The ledger: requests and replies of each host, counted outside of its role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dproxy::net::accept::Door;
use dproxy::wire::Status;

use crate::cluster;
use crate::world::{World, now, pair};

/// The window of a budget.
const WINDOW: Duration = Duration::from_secs(10);
/// A budget counts this much time as one moment: its slot of a quarter of a second, and the time until its next turn.
const MOMENT: Duration = Duration::from_millis(350);
/// A try was paid for at most this time before it reached the proxy.
const PROMPT: Duration = Duration::from_secs(1);
/// How often a request may wait for a sound node.
const RESCUES: usize = 3;
/// A lost session was broken at most this time before.
const LATELY: Duration = Duration::from_secs(3);

/// A host since its last start.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Life {
    /// GETs at a balancer.
    pub(crate) asked: u64,
    /// GETs with a complete reply.
    pub(crate) answered: u64,
    /// Replies other than a document or NOT_FOUND, to requests for sound documents.
    pub(crate) failed: u64,
    /// Replies to requests for documents that no node can serve.
    pub(crate) troubled: u64,
    /// Replies of a proxy that blame a late document, or the origin for it.
    pub(crate) late_documents: u64,
    pub(crate) late_origin: u64,
    /// GETs that wait.
    pub(crate) under_way: u64,
}

/// The end of a host at its stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped {
    /// Whether all connections ended by themselves.
    pub(crate) drained: bool,
    /// References to the role that were left.
    pub(crate) holders: usize,
}

/// The proxies that got a request, and when.
type Tries = Vec<(String, Duration)>;

/// A request at a balancer.
struct Sent {
    asked: Duration,
    tries: Tries,
}

/// All hosts.
#[derive(Default)]
pub(crate) struct Ledger {
    lives: Mutex<BTreeMap<String, Life>>,
    doors: Mutex<BTreeMap<String, Arc<Door>>>,
    stopped: Mutex<BTreeMap<String, Stopped>>,
    /// When each was started.
    began: Mutex<BTreeMap<String, Vec<Duration>>>,
    /// The requests at each balancer, by their trace ids.
    sent: Mutex<BTreeMap<String, BTreeMap<String, Sent>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number in a host's name.
fn index(host: &str, kind: &str) -> Option<usize> {
    host.strip_prefix(kind)?.parse().ok()
}

/// Whether no other proxy was well for a balancer at that time.
fn is_alone(world: &World, through: &str, proxy: &str, at: Duration) -> bool {
    let lb = index(through, "lb").expect("a balancer");
    let others = (0..world.plan.proxies).filter(|other| cluster::proxy(*other) != proxy);
    let mut well = others.filter(|other| {
        let name = cluster::proxy(*other);
        world.roster.was_used(lb, *other, at)
            && world.was_whole(&name, at)
            && world.was_whole(&pair(through, &name), at)
    });
    well.next().is_none()
}

/// No request reaches too many proxies, or one twice, unless its session there may have been lost or nobody else was there.
fn check(world: &World, balancer: &str, tries: &Tries) {
    let proxies: BTreeSet<&String> = tries.iter().map(|(proxy, _)| proxy).collect();
    assert!(proxies.len() <= 3 + usize::from(world.plan.hedge), "through {balancer} to {tries:?}");
    for proxy in proxies {
        let times: Vec<Duration> =
            tries.iter().filter(|(other, _)| other == proxy).map(|(_, at)| *at).collect();
        let since = times[0].saturating_sub(LATELY);
        let is_lost = !world.was_unbroken(proxy, since) || !world.was_unbroken(&pair(balancer, proxy), since);
        // With nobody else there, a proxy that was tried may be tried again: after each rescue. While the origin is away the
        // others may have been taken out as too slow.
        let may_be_alone =
            || is_alone(world, balancer, proxy, times[0]) || !world.was_whole("origin", times[0]);
        let rescues = if may_be_alone() { RESCUES } else { 0 };
        let most = 1 + usize::from(is_lost) + rescues;
        assert!(times.len() <= most, "through {balancer} to {tries:?}");
    }
}

impl Ledger {
    pub(crate) fn change(&self, host: &str, change: impl FnOnce(&mut Life)) {
        change(lock(&self.lives).entry(host.to_owned()).or_default());
    }

    pub(crate) fn life(&self, host: &str) -> Life {
        lock(&self.lives).get(host).copied().unwrap_or_default()
    }

    /// A host was started, for the first time or again.
    pub(crate) fn began(&self, host: &str) {
        self.change(host, |life| *life = Life::default());
        lock(&self.began).entry(host.to_owned()).or_default().push(now());
    }

    /// The counter of connections to a host.
    pub(crate) fn opened(&self, host: &str, door: &Arc<Door>) {
        lock(&self.doors).insert(host.to_owned(), door.clone());
    }

    /// Open connections to a host.
    pub(crate) fn connections(&self, host: &str) -> usize {
        lock(&self.doors).get(host).map_or(0, |door| door.open())
    }

    /// A GET reached a balancer: returns its trace id, its own or a new one.
    pub(crate) fn came_to_balancer(&self, host: &str, id: Option<&str>) -> String {
        self.change(host, |life| life.asked += 1);
        let mut all = lock(&self.sent);
        let sent = all.entry(host.to_owned()).or_default();
        let id = id.map_or_else(|| format!("{host}-{}", sent.len()), str::to_owned);
        let before = sent.insert(id.clone(), Sent { asked: now(), tries: Vec::new() });
        assert!(before.is_none(), "{id} came to {host} twice");
        id
    }

    /// A GET reached a proxy from a balancer. Only trials have no id.
    pub(crate) fn came_to_proxy(&self, world: &World, host: &str, from: &str, id: Option<&str>) {
        let (Some(balancer), Some(proxy)) = (index(from, "lb"), index(host, "proxy")) else { return };
        let Some(id) = id else { return world.roster.check(balancer, proxy, None) };
        let mut all = lock(&self.sent);
        let Some(sent) = all.get_mut(from) else { return };
        let sent = sent.get_mut(id).unwrap_or_else(|| panic!("{from} was never asked for {id}"));
        world.roster.check(balancer, proxy, Some(sent.asked));
        sent.tries.push((host.to_owned(), now()));
        check(world, from, &sent.tries);
    }

    /// Whether a balancer sent a request to this proxy since then, and to no other: it waited for the reply.
    pub(crate) fn was_relied_on(&self, balancer: &str, proxy: &str, since: Duration) -> bool {
        let sent = lock(&self.sent);
        let alone = |sent: &Sent| matches!(&sent.tries[..], [(asked, at)] if asked == proxy && *at >= since);
        sent.get(balancer).is_some_and(|sent| sent.values().any(alone))
    }

    pub(crate) fn answered(&self, host: &str, status: Status, is_troubled: bool) {
        let failed = !is_troubled && !matches!(status, Status::Ok | Status::NotFound);
        self.change(host, |life| {
            life.answered += 1;
            life.failed += u64::from(failed);
            life.troubled += u64::from(is_troubled);
        });
    }

    /// A host died: none of its requests may be left.
    pub(crate) fn died(&self, host: &str) {
        let life = self.life(host);
        assert_eq!(life.under_way, 0, "{host} has died: {life:?}");
    }

    pub(crate) fn stopped(&self, host: &str, stopped: Stopped) {
        lock(&self.stopped).insert(host.to_owned(), stopped);
    }

    pub(crate) fn all_stopped(&self) -> BTreeMap<String, Stopped> {
        lock(&self.stopped).clone()
    }

    /// No balancer exceeds its budgets: retries are at most 20 % of the requests of the last ten seconds plus ten per second,
    /// hedges at most 2 %.
    pub(crate) fn check_budgets(&self, world: &World) {
        // Ten retries a second, and one hedge.
        let (share, free) = if world.plan.hedge { (0.22, 110.0) } else { (0.2, 100.0) };
        for (balancer, sent) in lock(&self.sent).iter() {
            let began = lock(&self.began).get(balancer).cloned().unwrap_or_default();
            let paid = paid(sent, &began);
            for Paid { life, at, .. } in &paid {
                let since = at.saturating_sub(WINDOW - PROMPT);
                let together =
                    || paid.iter().filter(|other| other.life == *life && (since..=*at).contains(&other.at));
                let spent = together().count();
                // A hedge may come at a lower request rate than the last retry before it.
                let asked = together().map(|paid| paid.asked).max().unwrap_or_default();
                let most = share * asked as f64 + free;
                assert!(spent as f64 <= most, "{balancer} spent {spent} for {asked} by {at:?}");
            }
        }
    }

    /// The time since the last start of a balancer.
    pub(crate) fn age(&self, balancer: &str) -> Duration {
        let began = lock(&self.began).get(balancer).and_then(|began| began.last().copied());
        now().saturating_sub(began.unwrap_or_default())
    }

    /// Tries of a balancer since its start, beyond the first of each request, as far as they reached proxies.
    pub(crate) fn beyond(&self, balancer: &str) -> u64 {
        let (sent, began) = (lock(&self.sent), lock(&self.began));
        let began = began.get(balancer).map_or(&[][..], Vec::as_slice);
        let paid = sent.get(balancer).map_or_else(Vec::new, |sent| paid(sent, began));
        paid.iter().filter(|paid| Some(&paid.life) == began.last()).count() as u64
    }
}

/// A try paid by a budget.
struct Paid {
    /// The start of the balancer that sent it.
    life: Duration,
    at: Duration,
    /// The requests in the window of the budget.
    asked: usize,
}

/// The paid tries, without those that links held for a while: the time of their payment is unknown.
fn paid(sent: &BTreeMap<String, Sent>, began: &[Duration]) -> Vec<Paid> {
    let mut all = Vec::new();
    for Sent { asked, tries } in sent.values() {
        let life = began.iter().rfind(|began| *began <= asked).copied().unwrap_or_default();
        let mut seen = BTreeSet::new();
        let beyond = tries.iter().filter(|(proxy, _)| seen.insert(proxy)).skip(1);
        for at in beyond.map(|(_, at)| *at).filter(|at| *at <= *asked + PROMPT) {
            // It was paid for after its request came and before it reached the proxy.
            let since = asked.saturating_sub(WINDOW + MOMENT).max(life);
            let asked = sent.values().filter(|sent| (since..=at).contains(&sent.asked)).count();
            all.push(Paid { life, at, asked });
        }
    }
    all
}
