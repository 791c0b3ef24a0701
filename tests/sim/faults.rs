//! The faults and their times: at most two at a time, each for some seconds; in the end all are repaired.

use std::sync::Arc;
use std::time::Duration;

use dproxy::net::transport;

use crate::FAULTS_END;
use crate::cluster::{BALANCERS, Lack, MOST_PROXIES, Plan, balancer, proxy};
use crate::world::{PORTS, Spoilt, World, pair};

/// A balancer expects a sign of life from a silent proxy within this time.
const SIGN_OF_LIFE: Duration = Duration::from_millis(300);

#[derive(Clone, Debug)]
enum Kind {
    Crash(String),
    Partition(String, String),
    /// No message passes from the first to the second.
    OneWay(String, String),
    Hold(String, String),
    /// The delay of each message.
    Slow(String, String, Duration),
    /// These proxies reply wrongly.
    Spoil(Vec<String>, Spoilt),
    /// No host has a port left for a new connection to these; those that are open go on.
    Starve(Vec<String>),
}

struct Fault {
    kind: Kind,
    until: Duration,
}

/// The schedule, drawn as time goes by.
pub(crate) struct Faults {
    world: Arc<World>,
    now: Vec<Fault>,
    next: Duration,
}

impl Kind {
    fn random(plan: &Plan) -> Self {
        let proxies = plan.proxies;
        // With two places on a link, one session lost without a port for the next is too much for the others.
        let kinds = if plan.max_in_flight > 2 { 16 } else { 14 };
        let all = (0..proxies).map(proxy).collect();
        match plan.calm {
            Some(Lack::Upstream) => return Kind::Starve(vec!["origin".to_owned()]),
            Some(Lack::Downstream) => return Kind::Starve(all),
            None => {}
        }
        let proxy = || proxy(fastrand::usize(..proxies));
        let balancer = || balancer(fastrand::usize(..BALANCERS));
        // Upstream or downstream of a proxy.
        let link =
            || if fastrand::u8(..4) == 0 { (proxy(), "origin".to_owned()) } else { (balancer(), proxy()) };
        match fastrand::u8(..kinds) {
            0..=4 => Kind::Crash(proxy()),
            5 => Kind::Crash(balancer()),
            6 => Kind::Crash("origin".to_owned()),
            12 if fastrand::bool() => Kind::Spoil(vec![proxy()], Spoilt::Unpurged),
            12 => Kind::Spoil(vec![proxy()], Spoilt::Garbage),
            // All proxies: no second try can help, and each request needs three.
            13 => Kind::Spoil(all, Spoilt::Overloaded),
            // All proxies: sessions are enough, so that nobody may notice.
            14 => Kind::Starve(all),
            15 => Kind::Starve(vec!["origin".to_owned()]),
            kind => {
                let (a, b) = link();
                match kind {
                    7 => Kind::Partition(a, b),
                    8 if fastrand::bool() => Kind::OneWay(b, a),
                    8 => Kind::OneWay(a, b),
                    9 | 10 => Kind::Hold(a, b),
                    _ => Kind::Slow(a, b, Duration::from_millis(fastrand::u64(20..300))),
                }
            }
        }
    }

    /// The hosts and links that it breaks.
    fn broken(&self) -> Vec<String> {
        match self {
            Kind::Crash(host) => vec![host.clone()],
            Kind::Spoil(hosts, _) => hosts.clone(),
            Kind::Partition(a, b) | Kind::Hold(a, b) => vec![pair(a, b)],
            // Broken by both names of the link: a check uses either.
            Kind::OneWay(a, b) => vec![pair(a, b), pair(b, a)],
            // A sign of life takes two round trips: a node too slow for that is rightly marked down.
            Kind::Slow(a, b, latency) if *latency * 4 > SIGN_OF_LIFE => vec![pair(a, b)],
            // It works slowly: only its deadline shows a fault.
            Kind::Slow(..) => Vec::new(),
            // Sessions go on. A proxy that has none to the origin cannot fetch, and says so.
            Kind::Starve(hosts) if hosts[0] == "origin" => {
                (0..MOST_PROXIES).map(|index| pair(&proxy(index), "origin")).collect()
            }
            Kind::Starve(_) => vec![PORTS.to_owned()],
        }
    }

    fn touches(&self, other: &Kind) -> bool {
        let hosts = |kind: &Kind| match kind {
            Kind::Crash(host) => vec![host.clone()],
            Kind::Spoil(hosts, _) | Kind::Starve(hosts) => hosts.clone(),
            Kind::Partition(a, b) | Kind::OneWay(a, b) | Kind::Hold(a, b) | Kind::Slow(a, b, _) => {
                vec![a.clone(), b.clone()]
            }
        };
        let ours = hosts(self);
        hosts(other).iter().any(|host| ours.contains(host) && !host.starts_with("lb"))
    }
}

impl Faults {
    pub(crate) fn new(world: Arc<World>) -> Self {
        // Before any session to the origin is open, ports are lacking most.
        let is_at_once = world.plan.calm == Some(Lack::Upstream);
        let next = if is_at_once { Duration::ZERO } else { Duration::from_secs(2) };
        Self { world, now: Vec::new(), next }
    }

    /// Starts and ends the faults that are due.
    pub(crate) fn step(&mut self, sim: &mut turmoil::Sim<'_>) {
        let now = sim.elapsed();
        let (over, on): (Vec<Fault>, Vec<Fault>) =
            std::mem::take(&mut self.now).into_iter().partition(|fault| now >= fault.until.min(FAULTS_END));
        self.now = on;
        for fault in over {
            self.mend(sim, &fault.kind, now);
        }
        for fault in &self.now {
            self.world.note_broken(&fault.kind.broken(), now);
        }
        if now >= self.next && now < FAULTS_END {
            self.next = now + Duration::from_millis(fastrand::u64(100..3_000));
            let kind = Kind::random(&self.world.plan);
            if self.now.len() < 2 && !self.now.iter().any(|fault| fault.kind.touches(&kind)) {
                let until = now + Duration::from_millis(fastrand::u64(50..6_000));
                self.begin(sim, &kind, now);
                self.now.push(Fault { kind, until });
            }
        }
    }

    fn begin(&self, sim: &mut turmoil::Sim<'_>, kind: &Kind, now: Duration) {
        self.tell(now, "begins", kind);
        self.world.note_broken(&kind.broken(), now);
        match kind {
            Kind::Crash(host) => {
                sim.crash(host.as_str());
                self.world.ledger.died(host);
                if let Some(index) = host.strip_prefix("lb").and_then(|index| index.parse().ok()) {
                    self.world.forget_purges(index);
                    self.world.roster.died(index, now, self.world.plan.durable);
                }
            }
            Kind::Partition(a, b) => sim.partition(a.as_str(), b.as_str()),
            Kind::OneWay(a, b) => sim.partition_oneway(a.as_str(), b.as_str()),
            Kind::Hold(a, b) => sim.hold(a.as_str(), b.as_str()),
            Kind::Slow(a, b, latency) => sim.set_link_latency(a.as_str(), b.as_str(), *latency),
            Kind::Spoil(hosts, spoilt) => hosts.iter().for_each(|host| self.world.spoil(host, Some(*spoilt))),
            Kind::Starve(hosts) => {
                hosts.iter().for_each(|host| transport::starve(sim.lookup(host.as_str()), true));
            }
        }
    }

    fn mend(&self, sim: &mut turmoil::Sim<'_>, kind: &Kind, now: Duration) {
        self.tell(now, "is over", kind);
        match kind {
            Kind::Crash(host) => sim.bounce(host.as_str()),
            Kind::Partition(a, b) => sim.repair(a.as_str(), b.as_str()),
            Kind::OneWay(a, b) => sim.repair_oneway(a.as_str(), b.as_str()),
            Kind::Hold(a, b) => sim.release(a.as_str(), b.as_str()),
            Kind::Slow(a, b, _) => sim.set_link_latency(a.as_str(), b.as_str(), Duration::from_millis(1)),
            Kind::Spoil(hosts, _) => hosts.iter().for_each(|host| self.world.spoil(host, None)),
            Kind::Starve(hosts) => {
                hosts.iter().for_each(|host| transport::starve(sim.lookup(host.as_str()), false));
            }
        }
    }

    fn tell(&self, now: Duration, what: &str, kind: &Kind) {
        self.world.record.note(now, format_args!("{kind:?} {what}"));
    }
}
