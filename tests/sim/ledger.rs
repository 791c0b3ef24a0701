//! What each host was asked and has answered, as it is seen from outside of its role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dproxy::net::accept::Door;
use dproxy::wire::Status;

use crate::world::{World, now, pair};

/// What a budget looks back on, and what it counts as one moment: a quarter of a second, and until it looks again.
const WINDOW: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(350);
/// A try that came to a proxy as soon was paid for within this time.
const PROMPT: Duration = Duration::from_secs(1);
/// A session that was lost was broken within this.
const LATELY: Duration = Duration::from_secs(3);

/// A host since it was last started.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Life {
    /// GETs that came to a balancer.
    pub(crate) asked: u64,
    /// Those that were answered to the end.
    pub(crate) answered: u64,
    /// With something else than a document, or the word that there is none.
    pub(crate) failed: u64,
    /// Those that wait for something.
    pub(crate) under_way: u64,
}

/// How a host ended when it was told to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped {
    /// Whether all connections ended by themselves.
    pub(crate) drained: bool,
    /// Who still held the role.
    pub(crate) holders: usize,
}

/// The proxies that a request came to, and when.
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
    /// What came to each balancer, by the ids that go with requests.
    sent: Mutex<BTreeMap<String, BTreeMap<String, Sent>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number within the name of a host.
fn index(host: &str, kind: &str) -> Option<usize> {
    host.strip_prefix(kind)?.parse().ok()
}

/// No request comes to too many proxies, and to none twice, unless its session there may have been lost.
fn check(world: &World, balancer: &str, tries: &Tries) {
    let proxies: BTreeSet<&String> = tries.iter().map(|(proxy, _)| proxy).collect();
    assert!(proxies.len() <= 3 + usize::from(world.plan.hedge), "through {balancer} to {tries:?}");
    for proxy in proxies {
        let times: Vec<Duration> =
            tries.iter().filter(|(other, _)| other == proxy).map(|(_, at)| *at).collect();
        let since = times[0].saturating_sub(LATELY);
        let is_lost = !world.was_unbroken(proxy, since) || !world.was_unbroken(&pair(balancer, proxy), since);
        assert!(times.len() == 1 || (times.len() == 2 && is_lost), "through {balancer} to {tries:?}");
    }
}

impl Ledger {
    pub(crate) fn change(&self, host: &str, change: impl FnOnce(&mut Life)) {
        change(lock(&self.lives).entry(host.to_owned()).or_default());
    }

    pub(crate) fn life(&self, host: &str) -> Life {
        lock(&self.lives).get(host).copied().unwrap_or_default()
    }

    /// It was started, for the first time or again.
    pub(crate) fn began(&self, host: &str) {
        self.change(host, |life| *life = Life::default());
        lock(&self.began).entry(host.to_owned()).or_default().push(now());
    }

    /// Connections to a host go through this door.
    pub(crate) fn opened(&self, host: &str, door: &Arc<Door>) {
        lock(&self.doors).insert(host.to_owned(), door.clone());
    }

    /// How many connections to it are open.
    pub(crate) fn connections(&self, host: &str) -> usize {
        lock(&self.doors).get(host).map_or(0, |door| door.open())
    }

    /// A GET came to a balancer: the id that goes with it, its own or one that is given to it here.
    pub(crate) fn came_to_balancer(&self, host: &str, id: Option<&str>) -> String {
        self.change(host, |life| life.asked += 1);
        let mut all = lock(&self.sent);
        let sent = all.entry(host.to_owned()).or_default();
        let id = id.map_or_else(|| format!("{host}-{}", sent.len()), str::to_owned);
        let before = sent.insert(id.clone(), Sent { asked: now(), tries: Vec::new() });
        assert!(before.is_none(), "{id} came to {host} twice");
        id
    }

    /// A GET came from a balancer to a proxy. Only copies that try a node have no id.
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

    /// Whether a balancer has asked this proxy since then, and no other for the same: it waited for the answer.
    pub(crate) fn was_relied_on(&self, balancer: &str, proxy: &str, since: Duration) -> bool {
        let sent = lock(&self.sent);
        let alone = |sent: &Sent| matches!(&sent.tries[..], [(asked, at)] if asked == proxy && *at >= since);
        sent.get(balancer).is_some_and(|sent| sent.values().any(alone))
    }

    pub(crate) fn answered(&self, host: &str, status: Status) {
        let failed = !matches!(status, Status::Ok | Status::NotFound);
        self.change(host, |life| {
            life.answered += 1;
            life.failed += u64::from(failed);
        });
    }

    /// A host died: nothing of it may be left.
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

    /// No balancer asked more often for its requests than its budgets allow: a fifth of those of the last ten seconds and ten
    /// a second for retries, a fiftieth for hedges.
    pub(crate) fn check_budgets(&self, world: &World) {
        let share = if world.plan.hedge { 0.22 } else { 0.2 };
        for (balancer, sent) in lock(&self.sent).iter() {
            let began = lock(&self.began).get(balancer).cloned().unwrap_or_default();
            let paid = paid(sent, &began);
            for Paid { life, at, .. } in &paid {
                let since = at.saturating_sub(WINDOW - PROMPT);
                let together =
                    || paid.iter().filter(|other| other.life == *life && (since..=*at).contains(&other.at));
                let spent = together().count();
                // A hedge may come when less is asked than at the last retry before it.
                let asked = together().map(|paid| paid.asked).max().unwrap_or_default();
                let most = share * asked as f64 + 100.0;
                assert!(spent as f64 <= most, "{balancer} spent {spent} for {asked} by {at:?}");
            }
        }
    }

    /// How many tries beyond the first of each request a balancer made since it was started, as far as they came to proxies.
    pub(crate) fn beyond(&self, balancer: &str) -> u64 {
        let (sent, began) = (lock(&self.sent), lock(&self.began));
        let began = began.get(balancer).map_or(&[][..], Vec::as_slice);
        let paid = sent.get(balancer).map_or_else(Vec::new, |sent| paid(sent, began));
        paid.iter().filter(|paid| Some(&paid.life) == began.last()).count() as u64
    }
}

/// A try that a budget paid for.
struct Paid {
    /// When the balancer that sent it was started.
    life: Duration,
    at: Duration,
    /// What had been asked by then, as far as the budget looks back.
    asked: usize,
}

/// What was paid for, without what links held for a while: nobody knows when that was.
fn paid(sent: &BTreeMap<String, Sent>, began: &[Duration]) -> Vec<Paid> {
    let mut all = Vec::new();
    for Sent { asked, tries } in sent.values() {
        let life = began.iter().rfind(|began| *began <= asked).copied().unwrap_or_default();
        let mut seen = BTreeSet::new();
        let beyond = tries.iter().filter(|(proxy, _)| seen.insert(proxy)).skip(1);
        for at in beyond.map(|(_, at)| *at).filter(|at| *at <= *asked + PROMPT) {
            // It was paid for after it was asked and before it came.
            let since = asked.saturating_sub(WINDOW + MOMENT).max(life);
            let asked = sent.values().filter(|sent| (since..=at).contains(&sent.asked)).count();
            all.push(Paid { life, at, asked });
        }
    }
    all
}
