//! The nodes that a strategy may choose from, arranged once so that a choice need not walk through them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::homes::fold;
use super::kept_homes::KeptHomes;

/// The full share of requests, in percent.
pub const WHOLE: u32 = 100;

/// Tells two lists apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The numbers of a node that change with its requests.
pub trait Load: Send + Sync {
    /// Requests of this balancer in flight at it.
    fn in_flight(&self) -> u64;

    /// All requests that this balancer sent to it; with those of others, as far as it `reported` them.
    fn total(&self, reported: bool) -> u64;

    /// Its recent average latency in microseconds at the millisecond `now`; a failure counts as a slow reply.
    fn latency_us(&self, now: u64) -> u64;
}

/// A node that a strategy may choose.
#[derive(Clone)]
pub struct Candidate {
    /// Its index in the balancer's list.
    pub index: usize,
    /// A hash of its name, the same at every balancer.
    pub id: u64,
    /// Its weight in hundredths.
    pub weight: u32,
    /// The percentage of its weight that counts; less than [`WHOLE`] for a node that has just come back.
    pub share: u32,
    /// Its load.
    pub load: Arc<dyn Load>,
}

impl Candidate {
    /// The weight with which it is drawn: that of its share.
    pub fn drawn(&self) -> u32 {
        (u64::from(self.weight) * u64::from(self.share) / u64::from(WHOLE)).max(1) as u32
    }

    /// Whether it takes one more request, by chance: for a strategy that compares loads and draws none.
    pub(super) fn takes_its_share(&self) -> bool {
        self.share >= WHOLE || fastrand::u32(..WHOLE) < self.share
    }

    /// Whether it has fewer than `below` requests in flight.
    pub(crate) fn has_fewer_than(&self, below: u64) -> bool {
        below == u64::MAX || self.load.in_flight() < below
    }
}

/// Candidates that stay the same until a node changes.
pub struct Candidates {
    number: u64,
    all: Box<[Candidate]>,
    /// The ids side by side, folded: `hash` reads them all to find a home.
    ids: Box<[u64]>,
    /// For a strategy that goes by key.
    kept_homes: Option<KeptHomes>,
    /// The sums of the weights up to and with each candidate.
    ends: Box<[u64]>,
    /// The parts of the list in which all weights are the same.
    runs: Box<[Range<usize>]>,
    most: u32,
    are_reported: bool,
    /// The loads of nodes that are no candidates, and have requests in flight from before.
    beside: Box<[Arc<dyn Load>]>,
}

impl Candidates {
    /// A list in the order of the indices, or of weights for a strategy that goes `by_key`. `are_reported`: whether the totals
    /// of all are known.
    pub fn new(mut all: Vec<Candidate>, by_key: bool, are_reported: bool) -> Self {
        if by_key {
            all.sort_by_key(|candidate| (candidate.drawn(), candidate.index));
        }
        let runs = all.chunk_by(|a, b| a.drawn() == b.drawn()).scan(0, |end, run| {
            *end += run.len();
            Some(*end - run.len()..*end)
        });
        let ends = all.iter().scan(0, |end, candidate| {
            *end += u64::from(candidate.drawn());
            Some(*end)
        });
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            ids: all.iter().map(|candidate| fold(candidate.id)).collect(),
            kept_homes: by_key.then(|| KeptHomes::new(all.len())).flatten(),
            ends: ends.collect(),
            runs: runs.collect(),
            most: all.iter().map(Candidate::drawn).max().unwrap_or(1),
            all: all.into(),
            are_reported,
            beside: Box::default(),
        }
    }

    /// These candidates, with the nodes that are none and have requests in flight noted for strategies that compare with all.
    pub fn beside(self, others: Vec<Arc<dyn Load>>) -> Self {
        Self { beside: others.into(), ..self }
    }

    /// All of them.
    pub fn all(&self) -> &[Candidate] {
        &self.all
    }

    /// A number that no other list has.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn are_reported(&self) -> bool {
        self.are_reported
    }

    /// Requests in flight at nodes that are no candidates.
    pub(crate) fn in_flight_beside(&self) -> u64 {
        self.beside.iter().map(|load| load.in_flight()).sum()
    }

    /// The sum of the weights.
    pub(super) fn weight(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }

    pub(super) fn kept_homes(&self) -> Option<&KeptHomes> {
        self.kept_homes.as_ref()
    }

    /// The places of one weight after those of another, with their folded ids.
    pub(super) fn runs(&self) -> impl Iterator<Item = (Range<usize>, &[u64])> {
        self.runs.iter().map(|run| (run.clone(), &self.ids[run.clone()]))
    }

    /// The first place of an index that is not below `next`.
    pub(super) fn place(&self, next: usize) -> usize {
        self.all.partition_point(|candidate| candidate.index < next)
    }

    /// The candidates from the index `next` on, and those before it after them.
    pub(super) fn in_turn(&self, next: usize) -> impl Iterator<Item = &Candidate> {
        let (before, behind) = self.all.split_at(self.place(next));
        behind.iter().chain(before)
    }

    /// Whether a candidate takes the turn that it has. The heaviest takes each of its own, others a part by their weight.
    pub(super) fn takes_its_turn(&self, candidate: &Candidate) -> bool {
        let drawn = candidate.drawn();
        drawn == self.most || fastrand::u32(..self.most) < drawn
    }

    /// A random place by weight, but not `but`; `None` if there is no other.
    pub(super) fn draw(&self, but: Option<usize>) -> Option<usize> {
        let (begin, weight) = but.map_or((u64::MAX, 0), |but| {
            let weight = u64::from(self.all[but].drawn());
            (self.ends[but] - weight, weight)
        });
        let left = self.weight() - weight;
        if left == 0 {
            return None;
        }
        let drawn = fastrand::u64(..left);
        // What lies behind the one that is left out moves up by its weight.
        let drawn = if drawn >= begin { drawn + weight } else { drawn };
        Some(self.ends.partition_point(|end| *end <= drawn))
    }
}
