//! The proxies of a simulation, of which the balancer's own code chooses one for each request.
//!
//! All of them are healthy and idle, and named as those of `dproxy cluster`. A choice that goes by the key is its home: the
//! further homes of a hot key are left out, since a trace does not tell how many requests are in flight.

use std::sync::Arc;

use crate::lb::balance::{Balance, Candidate, Candidates, Load, Pick, Strategy, WHOLE, hash_of};
use crate::wire::Key;

/// The port of the first proxy in `dproxy cluster`.
const FIRST_PORT: usize = 8001;

/// Proxies behind a balancer.
pub struct Fleet {
    balance: Box<dyn Balance>,
    candidates: Candidates,
}

/// The load of a proxy without requests in flight.
struct Idle;

impl Load for Idle {
    fn in_flight(&self) -> u64 {
        0
    }

    fn total(&self, _reported: bool) -> u64 {
        0
    }

    fn latency_us(&self, _now: u64) -> u64 {
        0
    }
}

impl Fleet {
    /// The strategies that need no loads, which a trace does not have.
    pub const STRATEGIES: [Strategy; 2] = [Strategy::RoundRobin, Strategy::Hash];

    /// `proxies` proxies, at least one, behind a balancer with this strategy.
    pub fn new(proxies: usize, strategy: Strategy) -> Self {
        let balance = strategy.build();
        let idle: Arc<dyn Load> = Arc::new(Idle);
        let candidate = |index: usize| {
            let id = hash_of(format!("127.0.0.1:{}", FIRST_PORT + index).as_bytes());
            Candidate { index, id, weight: 100, share: WHOLE, load: idle.clone() }
        };
        let all = (0..proxies.max(1)).map(candidate).collect();
        let candidates = Candidates::new(all, balance.goes_by_key(), true);
        Self { balance, candidates }
    }

    /// The index of the proxy that gets the next request, which is for this key.
    pub fn choose(&self, key: &str) -> usize {
        if self.candidates.all().len() == 1 {
            return 0;
        }
        let Ok(key) = Key::parse(key) else {
            // A path that dproxy would not serve has a home as well: that of a key made of its hash.
            return self.choose(&format!("path/{:x}", hash_of(key.as_bytes())));
        };
        let pick = Pick { key, now: 0, may: &|_| true };
        let chosen = match self.balance.goes_by_key() {
            true => self.balance.peek(&pick, &self.candidates),
            false => self.balance.pick(&pick, &self.candidates),
        };
        chosen.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(strategy: Strategy, keys: &[&str]) -> Vec<usize> {
        let fleet = Fleet::new(3, strategy);
        keys.iter().map(|key| fleet.choose(key)).collect()
    }

    #[test]
    fn round_robin_takes_turns_whatever_the_key() {
        let keys = ["article/1", "article/1", "no key at all", "article/1"];
        assert_eq!(chosen(Strategy::RoundRobin, &keys), [0, 1, 2, 0]);
    }

    #[test]
    fn a_key_has_the_home_that_a_cluster_on_the_usual_ports_gives_it() {
        let keys =
            ["article/1", "article/2", "article/3", "article/4", "article/5", "article/6", "article/1"];
        // As EXPLAIN says at the balancer of `dproxy cluster --strategy hash`.
        assert_eq!(chosen(Strategy::Hash, &keys), [0, 0, 0, 2, 1, 1, 0]);
        let other = ["/static/a b.css", "/static/a b.css"];
        let [first, second] = chosen(Strategy::Hash, &other)[..] else { panic!("two") };
        assert_eq!(first, second, "what is no key has one home as well");
    }
}
