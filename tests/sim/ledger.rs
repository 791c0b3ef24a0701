//! What each host was asked and has answered, as it is seen from outside of its role.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dproxy::handler::{Answer, Ask, Handler};
use dproxy::net::accept::Door;
use dproxy::wire::{Reply, Request, Status};

use crate::cluster::BALANCERS;
use crate::world::{World, now, pair};

/// A host since it was last started.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Life {
    began: Duration,
    /// GETs that came.
    pub(crate) asked: u64,
    /// Those that were answered to the end.
    pub(crate) answered: u64,
    /// With something else than a document, or the word that there is none.
    pub(crate) failed: u64,
    /// Those that wait for something.
    pub(crate) under_way: u64,
    /// GETs that came to proxies from this balancer.
    pub(crate) sent: u64,
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.change(host, |life| *life = Life { began: now(), ..Life::default() });
    }

    /// Connections to a host go through this door.
    pub(crate) fn opened(&self, host: &str, door: &Arc<Door>) {
        lock(&self.doors).insert(host.to_owned(), door.clone());
    }

    /// How many connections to it are open.
    pub(crate) fn connections(&self, host: &str) -> usize {
        lock(&self.doors).get(host).map_or(0, |door| door.open())
    }

    fn came(&self, host: &str, from: Option<&str>, trace: Option<&str>) {
        self.change(host, |life| life.asked += 1);
        let Some(balancer) = from.filter(|from| from.starts_with("lb")) else { return };
        self.change(balancer, |life| life.sent += 1);
        if let Some(trace) = trace {
            let at = (trace.to_owned(), balancer.to_owned());
            lock(&self.tries).entry(at).or_default().push((host.to_owned(), now()));
        }
    }

    fn answered(&self, host: &str, status: Status) {
        let failed = !matches!(status, Status::Ok | Status::NotFound);
        self.change(host, |life| {
            life.answered += 1;
            life.failed += u64::from(failed);
        });
    }

    /// A host died: nothing of it may be left, and it must have kept its budget.
    pub(crate) fn died(&self, host: &str, now: Duration) {
        let life = self.life(host);
        assert_eq!(life.under_way, 0, "{host} has died: {life:?}");
        life.check_budget(host, now);
    }

    pub(crate) fn stopped(&self, host: &str, stopped: Stopped) {
        lock(&self.stopped).insert(host.to_owned(), stopped);
    }

    pub(crate) fn all_stopped(&self) -> BTreeMap<String, Stopped> {
        lock(&self.stopped).clone()
    }

    /// No request came to too many proxies, and to none twice, unless its session there was lost.
    pub(crate) fn check_tries(&self, world: &World) {
        let most = 3 + usize::from(world.plan.hedge);
        for ((trace, balancer), tries) in lock(&self.tries).iter() {
            let mut proxies: Vec<&String> = tries.iter().map(|(proxy, _)| proxy).collect();
            proxies.sort_unstable();
            proxies.dedup();
            assert!(proxies.len() <= most, "{trace} came through {balancer} to {tries:?}");
            let lost = |(proxy, at): &&(String, Duration)| {
                !world.was_whole(proxy, *at) || !world.was_whole(&pair(balancer, proxy), *at)
            };
            let lost = tries.iter().filter(lost).count();
            assert!(tries.len() - proxies.len() <= lost, "{trace} came through {balancer} to {tries:?}");
        }
    }

    /// What all balancers sent was within their budgets.
    pub(crate) fn check_budgets(&self, now: Duration) {
        (0..BALANCERS).map(crate::cluster::balancer).for_each(|lb| self.life(&lb).check_budget(&lb, now));
    }
}

impl Life {
    /// A fifth of the requests and ten a second for retries, a fiftieth for hedges, and what a purse of ten seconds holds
    /// at the start; some on their way when it was started.
    fn check_budget(&self, host: &str, now: Duration) {
        let seconds = now.saturating_sub(self.began).as_secs_f64();
        let most = 1.22 * self.asked as f64 + 10.0 * seconds + 110.0;
        assert!(self.sent as f64 <= most, "{host} sent more than {most}: {self:?}");
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
        world.ledger.came(&host, from, ask.trace);
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
