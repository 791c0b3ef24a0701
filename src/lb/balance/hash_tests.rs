//! The homes of keys, and how many copies of them there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::FEW;
use super::super::fixed::{any, fixed};
use super::*;

const KEYS: usize = 100_000;

fn nodes(count: usize) -> Vec<Candidate> {
    (0..count).map(|index| busy(index, 0)).collect()
}

fn busy(index: usize, in_flight: u64) -> Candidate {
    Candidate { id: hash(format!("10.0.0.{index}:8001").as_bytes()), ..fixed(index, in_flight, 0) }
}

fn among(all: &[Candidate]) -> Candidates {
    Candidates::new(all.to_vec(), true, true)
}

fn homes(all: &[Candidate]) -> Vec<usize> {
    let among = among(all);
    let key = |key: usize| hash(format!("article/{key}").as_bytes());
    (0..KEYS).map(|i| home(key(i), &among, |_| true).unwrap().index).collect()
}

#[test]
fn only_the_share_of_a_node_moves_and_loads_are_even() {
    for count in [2, 3, 5, 10, 30, 100] {
        let all = nodes(count);
        let before = homes(&all);
        let mut loads = vec![0usize; count];
        before.iter().for_each(|&node| loads[node] += 1);
        let uneven = *loads.iter().max().unwrap() as f64 * count as f64 / KEYS as f64;
        assert!(uneven <= 1.25, "{count} nodes: {uneven}");
        let gone = count / 2;
        let left: Vec<Candidate> = all.iter().filter(|node| node.index != gone).cloned().collect();
        let moved = before.iter().zip(homes(&left)).filter(|(before, after)| **before != *after).count();
        assert_eq!(moved, loads[gone], "only its own keys moved");
        assert!(moved as f64 / KEYS as f64 <= 1.0 / count as f64 + 0.01, "{count} nodes: {moved}");
    }
}

#[test]
fn a_weight_is_a_share() {
    let mut all = nodes(3);
    all[1].weight = 200;
    let share = homes(&all).iter().filter(|&&node| node == 1).count() as f64 / KEYS as f64;
    assert!((share - 0.5).abs() < 0.01, "{share}");
}

#[test]
fn homes_are_the_same_for_ever() {
    let all = nodes(5);
    let golden: Vec<usize> = homes(&all).into_iter().take(20).collect();
    assert_eq!(golden, [3, 2, 4, 1, 1, 2, 4, 2, 0, 3, 2, 2, 0, 2, 4, 3, 0, 4, 0, 1]);
}

#[test]
fn kept_homes_are_those_that_are_found_anew() {
    for count in [FEW, 1_000] {
        let mut all = nodes(count);
        (0..count).step_by(3).for_each(|index| all[index].weight = 250);
        let (kept, anew) = (among(&all), Candidates::new(all, false, true));
        assert!(anew.kept_homes().is_none());
        for key in (0..3_000).cycle().take(9_000).map(mix) {
            let index = |among, may: &dyn Fn(&Candidate) -> bool| home(key, among, may).unwrap().index;
            let first = index(&kept, &|_| true);
            assert_eq!(first, index(&anew, &|_| true));
            let may = |candidate: &Candidate| candidate.index != first;
            assert_eq!(index(&kept, &may), index(&anew, &may), "the next home");
        }
    }
}

/// Sets the requests in flight at each of three nodes, all for other keys.
fn three(hash: &Hash, in_flight: [u64; 3]) -> Candidates {
    let others = Key::parse("other/1").unwrap();
    let all = [0, 1, 2].map(|index| busy(index, in_flight[index]));
    let missing = in_flight.iter().sum::<u64>() - hash.all_in_flight();
    (0..missing).for_each(|_| hash.sent(others, 0, &*all[0].load));
    among(&all)
}

/// Three of which the first home of `article/1` has more in flight than the others.
fn uneven(hash: &Hash, first: usize, in_flight: u64) -> Candidates {
    let mut all = [2; 3];
    all[first] = in_flight;
    three(hash, all)
}

#[test]
fn a_hot_key_leaves_a_home_with_too_much_in_flight_unless_it_is_cold() {
    let hash = Hash { settles: Duration::ZERO, ..Hash::default() };
    let (key, load) = (any().key, fixed(0, 0, 0).load);
    let first = hash.pick(&any(), &three(&hash, [0; 3])).unwrap();
    let id = busy(first, 0).id;
    (0..3_000).for_each(|other| _ = hash.popularity.note(mix(other % 300), 3));
    while hash.popularity.note(hash_of(key), 3).is_none() {}
    assert_eq!(hash.pick(&any(), &three(&hash, [2; 3])), Some(first), "evenly loaded");
    let uneven = uneven(&hash, first, 9);
    let second = hash.pick(&any(), &uneven).unwrap();
    assert_ne!(second, first);
    hash.sent(key, id, &*load);
    assert_eq!(hash.pick(&any(), &uneven), Some(first), "it is being fetched there");
    assert!(!hash.may_hedge(key, id));
    hash.sent(key, id, &*load);
    hash.ended(key, id, &*load, Some(true));
    assert_eq!(hash.pick(&any(), &uneven), Some(second), "it is a hot one and cached");
    assert!(hash.may_hedge(key, id));
    assert_eq!(hash.peek(&any(), &uneven), Some(first));
}

#[test]
fn requests_at_a_node_that_is_no_candidate_hold_no_hot_key_at_its_home() {
    let hash = Hash { settles: Duration::ZERO, ..Hash::default() };
    let (key, load) = (any().key, fixed(0, 0, 0).load);
    while hash.popularity.note(hash_of(key), 2).is_none() {}
    nodes(2).iter().for_each(|node| hash.ended(key, node.id, &*load, Some(true)));
    let first = home(hash_of(key), &among(&nodes(2)), |_| true).unwrap().index;
    let loads = |index: usize| if index == first { 12 } else { 1 };
    (0..2 + 13 + 200).for_each(|_| hash.sent(key, busy(0, 0).id, &*load));
    let stopped = busy(2, 200).load;
    let both = among(&[0, 1].map(|index| busy(index, loads(index)))).beside(vec![stopped]);
    assert!(
        (0..100).all(|_| hash.pick(&any(), &both) != Some(first)),
        "14 are in flight, and 12 of them there"
    );
}

#[test]
fn any_other_key_stays_until_its_home_has_a_queue() {
    let hash = Hash { settles: Duration::ZERO, ..Hash::default() };
    let first = hash.pick(&any(), &three(&hash, [0; 3])).unwrap();
    assert_eq!(hash.pick(&any(), &uneven(&hash, first, 9)), Some(first), "9 are no queue");
    let stuck = uneven(&hash, first, 400);
    assert_ne!(hash.pick(&any(), &stuck), Some(first));
}

#[test]
fn a_rush_for_a_cold_key_stays_at_its_home_after_the_first_answers() {
    let hash = Hash::default();
    let (key, load) = (any().key, fixed(0, 0, 0).load);
    let first = hash.pick(&any(), &three(&hash, [0; 3])).unwrap();
    let id = busy(first, 0).id;
    (0..3).for_each(|_| hash.sent(key, id, &*load));
    let mut in_flight = [0; 3];
    in_flight[first] = 900;
    let uneven = three(&hash, in_flight);
    hash.ended(key, id, &*load, Some(false));
    hash.ended(key, id, &*load, Some(true));
    assert_eq!(hash.pick(&any(), &uneven), Some(first));
    assert!(!hash.may_hedge(key, id));
}

/// Nodes that work on one request after the other, and the requests of a balancer.
struct World {
    hash: Hash,
    among: Candidates,
    queues: Vec<Arc<Queue>>,
    keys: Vec<String>,
    /// Of each key: where it was requested.
    copies: Vec<HashSet<usize>>,
    /// Requests under way, by their ends in microseconds, with key and node.
    ends: BinaryHeap<Reverse<(u64, usize, usize)>>,
    now: u64,
    random: fastrand::Rng,
    /// Whether every key is passed on above the share of its one home: the rule without a floor.
    is_strict: bool,
}

#[derive(Default)]
struct Queue {
    in_flight: AtomicU64,
    total: AtomicU64,
    free_at: AtomicU64,
}

impl Load for Queue {
    fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    fn total(&self, _reported: bool) -> u64 {
        self.total.load(Relaxed)
    }

    fn latency_us(&self, _now: u64) -> u64 {
        0
    }
}

/// The mean time of a node for a request, in microseconds.
const SERVICE: f64 = 1_000.0;

impl World {
    fn new(nodes: usize, keys: usize) -> Self {
        let queues: Vec<Arc<Queue>> = (0..nodes).map(|_| Arc::default()).collect();
        let node = |index: usize| Candidate { load: queues[index].clone(), ..busy(index, 0) };
        Self {
            hash: Hash { settles: Duration::from_millis(100), ..Hash::default() },
            among: among(&(0..nodes).map(node).collect::<Vec<_>>()),
            queues,
            keys: (0..keys).map(|key| format!("article/{key}")).collect(),
            copies: vec![HashSet::new(); keys],
            ends: BinaryHeap::new(),
            now: 0,
            random: fastrand::Rng::with_seed(7),
            is_strict: false,
        }
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.random.f64()).ln()) as u64 + 1
    }

    fn strict(&self, key: u64) -> Option<usize> {
        let bound = Bound::of(self.hash.all_in_flight(), self.among.weight());
        let takes = |node: &Candidate| bound.takes(node.drawn(), node.load.in_flight(), true, 0.0);
        let found = home(key, &self.among, takes).or_else(|| home(key, &self.among, |_| true));
        found.map(|node| node.index)
    }

    fn send(&mut self, key: usize) {
        let text = self.keys[key].clone();
        let name = Key::parse(&text).unwrap();
        let picked = match self.is_strict {
            true => self.strict(hash_of(name)),
            false => self.hash.pick(&Pick { key: name, ..any() }, &self.among),
        };
        let index = picked.unwrap();
        let queue = self.queues[index].clone();
        queue.in_flight.fetch_add(1, Relaxed);
        queue.total.fetch_add(1, Relaxed);
        self.hash.sent(name, busy(index, 0).id, &*queue);
        self.copies[key].insert(index);
        let took = self.exponential(SERVICE);
        let end = queue.free_at.load(Relaxed).max(self.now) + took;
        queue.free_at.store(end, Relaxed);
        self.ends.push(Reverse((end, key, index)));
    }

    /// Ends the next request if that is before `until`.
    async fn end(&mut self, until: u64) -> bool {
        let Some(Reverse((at, key, index))) = self.ends.peek().copied().filter(|end| end.0.0 <= until) else {
            return false;
        };
        self.ends.pop();
        self.to(at).await;
        let (queue, text) = (&self.queues[index], &self.keys[key]);
        queue.in_flight.fetch_sub(1, Relaxed);
        self.hash.ended(Key::parse(text).unwrap(), busy(index, 0).id, &**queue, Some(true));
        true
    }

    /// The clock of the strategy follows in steps of a hundred milliseconds.
    async fn to(&mut self, now: u64) {
        let steps = now / 100_000 - self.now / 100_000;
        self.now = now;
        if steps > 0 {
            tokio::time::advance(Duration::from_millis(100 * steps)).await;
        }
    }

    /// Requests that arrive at random, at this part of what the nodes can.
    async fn open(&mut self, part: f64, requests: usize, key: impl Fn(&mut fastrand::Rng) -> usize) {
        for _ in 0..requests {
            let pause = self.exponential(SERVICE / self.queues.len() as f64 / part);
            let at = self.now + pause;
            while self.end(at).await {}
            self.to(at).await;
            let key = key(&mut self.random);
            self.send(key);
        }
    }

    /// Clients that send the next request with each reply: the nodes are never idle.
    async fn closed(&mut self, clients: usize, requests: usize, key: impl Fn(&mut fastrand::Rng) -> usize) {
        for request in 0..requests {
            if request >= clients {
                self.end(u64::MAX).await;
            }
            let key = key(&mut self.random);
            self.send(key);
        }
    }

    /// The mean number of nodes that have a requested key, and the requests of the busiest node to the mean.
    fn seen(&self) -> (f64, f64) {
        let requested = self.copies.iter().filter(|copies| !copies.is_empty());
        let copies = requested.clone().map(HashSet::len).sum::<usize>() as f64 / requested.count() as f64;
        let totals = || self.queues.iter().map(|queue| queue.total.load(Relaxed) as f64);
        let busiest = totals().fold(0.0, f64::max) * self.queues.len() as f64 / totals().sum::<f64>();
        (copies, busiest)
    }
}

#[tokio::test(start_paused = true)]
async fn even_keys_have_hardly_a_copy_up_to_a_high_load_and_few_beyond() {
    for nodes in [3, 12, 30, 100] {
        let keys = 100 * nodes;
        for part in [0.05, 0.5, 0.7] {
            let mut world = World::new(nodes, keys);
            world.open(part, 50 * keys, |random| random.usize(..keys)).await;
            let (copies, _) = world.seen();
            assert!(copies <= 1.1, "{copies} copies on {nodes} at {part}");
        }
        let mut world = World::new(nodes, keys);
        world.closed(16 * nodes, 50 * keys, |random| random.usize(..keys)).await;
        let (copies, busiest) = world.seen();
        assert!(copies <= 1.5, "{copies} copies on {nodes} that are never idle");
        assert!(busiest <= 1.25, "{busiest} on {nodes}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_busiest_node_under_uneven_keys_has_no_more_than_it_had_without_a_floor() {
    fastrand::seed(7);
    let sums: Vec<f64> = (1..=10_000)
        .scan(0.0, |sum, key| {
            *sum += 1.0 / f64::from(key);
            Some(*sum)
        })
        .collect();
    let zipf = |random: &mut fastrand::Rng| {
        let drawn = random.f64() * sums[sums.len() - 1];
        sums.partition_point(|sum| *sum < drawn).min(sums.len() - 1)
    };
    let mut sum = 0.0;
    for nodes in [12, 30, 100] {
        for part in [0.2, 0.7] {
            let mut busiest =
                [true, false].map(|is_strict| World { is_strict, ..World::new(nodes, sums.len()) });
            for world in &mut busiest {
                // Until it is known which keys are hot, and that they are cached.
                world.open(part, 80_000, zipf).await;
                world.queues.iter().for_each(|queue| queue.total.store(0, Relaxed));
                world.open(part, 150_000, zipf).await;
            }
            let [strict, ours] = busiest.map(|world| world.seen().1);
            assert!(ours <= 1.1 * strict, "{ours}, and {strict} without a floor, on {nodes} at {part}");
            sum += ours / strict;
        }
    }
    assert!(sum / 6.0 <= 1.0, "{sum}");
}

#[tokio::test(start_paused = true)]
async fn few_keys_load_all_nodes_alike() {
    fastrand::seed(7);
    for (keys, nodes) in [(1, 3), (2, 3), (4, 3), (1, 12), (8, 12)] {
        let mut world = World::new(nodes, keys);
        world.closed(256, 10_000, |random| random.usize(..keys)).await;
        world.queues.iter().for_each(|queue| queue.total.store(0, Relaxed));
        world.open(0.7, 20_000, |random| random.usize(..keys)).await;
        let (_, busiest) = world.seen();
        assert!(busiest <= 1.5, "{keys} keys at {nodes} nodes: {busiest}");
    }
}
