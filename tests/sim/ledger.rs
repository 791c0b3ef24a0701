//! What each host was asked and has answered, as it is seen from outside of its role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dproxy::handler::{Answer, Ask, Handler};
use dproxy::net::accept::Door;
use dproxy::wire::{Reply, Request, Status};

use crate::world::{World, now, pair};

/// What a budget looks back on.
const WINDOW: Duration = Duration::from_secs(10);
/// How long a link may hold what is sent.
const HELD: Duration = Duration::from_secs(6);
/// A session that was lost was broken within this.
const LATELY: Duration = Duration::from_secs(3);

/// A host since it was last started.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Life {
    /// GETs that came.
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

/// All hosts.
#[derive(Default)]
pub(crate) struct Ledger {
    lives: Mutex<BTreeMap<String, Life>>,
    doors: Mutex<BTreeMap<String, Arc<Door>>>,
    stopped: Mutex<BTreeMap<String, Stopped>>,
    /// By the id of a request and the balancer that it came through.
    tries: Mutex<BTreeMap<(String, String), Tries>>,
    /// When balancers were asked.
    asked: Mutex<BTreeMap<String, Vec<Duration>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn change(&self, host: &str, change: impl FnOnce(&mut Life)) {
        change(lock(&self.lives).entry(host.to_owned()).or_default());
    }

    pub(crate) fn life(&self, host: &str) -> Life {
        lock(&self.lives).get(host).copied().unwrap_or_default()
    }

    /// It was started, for the first time or again.
    fn began(&self, host: &str) {
        self.change(host, |life| *life = Life::default());
    }

    /// Connections to a host go through this door.
    pub(crate) fn opened(&self, host: &str, door: &Arc<Door>) {
        lock(&self.doors).insert(host.to_owned(), door.clone());
    }

    /// How many connections to it are open.
    pub(crate) fn connections(&self, host: &str) -> usize {
        lock(&self.doors).get(host).map_or(0, |door| door.open())
    }

    fn came(&self, world: &World, host: &str, from: Option<&str>, trace: Option<&str>) {
        self.change(host, |life| life.asked += 1);
        if host.starts_with("lb") {
            lock(&self.asked).entry(host.to_owned()).or_default().push(now());
        }
        if let (Some(trace), Some(balancer)) = (trace, from.filter(|from| from.starts_with("lb"))) {
            let at = (trace.to_owned(), balancer.to_owned());
            let mut all = lock(&self.tries);
            let tries = all.entry(at).or_default();
            tries.push((host.to_owned(), now()));
            check(world, balancer, tries);
        }
    }

    fn answered(&self, host: &str, status: Status) {
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

    /// No balancer asked more often for its requests than its budgets allow: a fifth of them and ten a second for retries, a
    /// fiftieth for hedges. Links may have held what it sent for a while.
    pub(crate) fn check_budgets(&self) {
        let tries = lock(&self.tries);
        for (balancer, asked) in lock(&self.asked).iter() {
            let of_it = tries.iter().filter(|((_, through), _)| through == balancer);
            let mut extra: Vec<Duration> =
                of_it.flat_map(|(_, tries)| tries.iter().skip(1).map(|(_, at)| *at)).collect();
            extra.sort_unstable();
            for (index, at) in extra.iter().enumerate() {
                let within = |times: &[Duration], since| {
                    times.iter().filter(|time| (at.saturating_sub(since)..=*at).contains(time)).count()
                };
                let (spent, asked) = (within(&extra[..=index], WINDOW), within(asked, WINDOW + HELD));
                let most = 0.22 * asked as f64 + 110.0;
                assert!(spent as f64 <= most, "{balancer} spent {spent} for {asked} by {at:?}");
            }
        }
    }
}

/// A role, and the ledger that it is entered in.
pub(crate) struct Watched<H> {
    inner: Arc<H>,
    host: String,
    world: Arc<World>,
}

/// Counts an answer that waits for something.
struct UnderWay(String, Arc<World>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.1.ledger.change(&self.0, |life| life.under_way -= 1);
    }
}

impl<H: Handler> Watched<H> {
    /// A role that begins its life on a host now.
    pub(crate) fn new(inner: Arc<H>, host: &str, world: &Arc<World>) -> Arc<Self> {
        world.ledger.began(host);
        Arc::new(Self { inner, host: host.to_owned(), world: world.clone() })
    }

    fn answered(world: &World, host: &str, reply: Reply) -> Reply {
        world.ledger.answered(host, reply.status);
        reply
    }
}

impl<H: Handler> Handler for Watched<H> {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        let Request::Get(key) = ask.request else { return self.inner.answer(ask) };
        let (world, host) = (self.world.clone(), self.host.clone());
        let from = turmoil::reverse_lookup(ask.from);
        let from = from.as_deref();
        world.note(format_args!("{} asks {host} for {key}", from.unwrap_or("somebody")));
        world.ledger.came(&world, &host, from, ask.trace);
        match self.inner.answer(ask) {
            Answer::Now(reply) => Answer::Now(Self::answered(&world, &host, reply)),
            Answer::Later(reply) => {
                world.ledger.change(&host, |life| life.under_way += 1);
                let under_way = UnderWay(host, world);
                Answer::later(async move {
                    let reply = reply.await;
                    Self::answered(&under_way.1, &under_way.0, reply)
                })
            }
        }
    }

    fn error(&self, status: Status, text: String) -> Reply {
        self.inner.error(status, text)
    }
}
