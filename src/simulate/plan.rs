//! What `dproxy simulate` is to do: the caches to compare, and the traces.

use std::path::PathBuf;
use std::time::Duration;

use super::simulation::UNBOUNDED;
use super::{Capacity, Fleet, Needs, Simulation, TraceFormat};
use crate::lb::balance::Strategy;
use crate::proxy::cache::{Bounds, CacheType};
use crate::terminal::Format;

/// The caches to compare, and the traces.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Files or pipes; `-` is standard input.
    pub traces: Vec<PathBuf>,
    /// The format of all traces; each is recognised without one.
    pub trace_format: Option<TraceFormat>,
    /// Types to compare.
    pub cache_types: Vec<CacheType>,
    /// Sizes to compare, in entries; none bounds only bytes.
    pub capacities: Vec<Capacity>,
    /// Sizes to compare, in bytes; none bounds only entries.
    pub max_bytes: Vec<usize>,
    /// How long an entry is fresh, by the times of the log; for ever without one.
    pub ttl: Option<Duration>,
    /// Shards of the lru cache; as many as a proxy would choose without.
    pub shards: Option<usize>,
    /// Proxies, each with a cache of the size.
    pub proxies: usize,
    /// How the balancer before them chooses one; of one proxy nothing is chosen.
    pub strategy: Strategy,
    /// The format of the results.
    pub output: Format,
}

impl Plan {
    /// What each request has to have, and whether the keys are counted first.
    pub fn needs(&self) -> Needs {
        Needs {
            times: self.ttl.is_some(),
            sizes: !self.max_bytes.is_empty(),
            again: self.capacities.iter().any(|capacity| matches!(capacity, Capacity::Percent(_))),
        }
    }

    /// A cache for each size and type, for a trace of `keys` different keys.
    pub fn simulations(&self, keys: u64) -> Vec<Simulation> {
        let entries: Vec<usize> = match self.capacities.is_empty() {
            true => vec![UNBOUNDED.entries],
            false => self.capacities.iter().map(|capacity| capacity.entries(keys)).collect(),
        };
        let bytes = if self.max_bytes.is_empty() { &[UNBOUNDED.bytes][..] } else { &self.max_bytes };
        let bounds =
            bytes.iter().flat_map(|&bytes| entries.iter().map(move |&entries| Bounds { entries, bytes }));
        bounds
            .flat_map(|bounds| {
                let new = move |&cache_type| {
                    Simulation::new(cache_type, bounds, self.shards, self.ttl, self.proxies)
                };
                self.cache_types.iter().map(new)
            })
            .collect()
    }

    /// The proxies, before their first request.
    pub fn fleet(&self) -> Fleet {
        Fleet::new(self.proxies, self.strategy)
    }

    /// The strategy, if there is something to choose.
    pub fn choice(&self) -> Option<Strategy> {
        (self.proxies > 1).then_some(self.strategy)
    }

    /// Bytes that no document of the largest cache may have.
    pub fn too_large(&self) -> usize {
        let bytes = self.max_bytes.iter().copied().max().unwrap_or_default();
        Bounds { bytes, ..UNBOUNDED }.largest() + 1
    }
}
