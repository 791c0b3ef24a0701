//! Whole clusters on a simulated network, under random schedules of faults: the promises that hold whatever happens.
//!
//! ```text
//! RUSTFLAGS="--cfg sim" cargo test --profile sim --target-dir target/sim --test sim
//! DPROXY_SIM_SEEDS=10000 …   so many seeds        DPROXY_SIM_SEED=17 …   replays one, and says what happens in it
//! ```
//! A seed decides the size of the cluster, its strategy and settings, every fault and its time, and what clients ask.
#![cfg(sim)]
#![expect(clippy::print_stdout, reason = "the seed of a schedule is what a reader needs")]

mod cluster;
mod faults;
mod people;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Plan;
use crate::faults::Faults;
use crate::world::World;

/// Faults come until then; afterwards all is mended.
const FAULTS_END: Duration = Duration::from_secs(30);
/// Clients ask until then.
const CLIENTS_END: Duration = Duration::from_secs(40);
/// Then nothing may be left.
const AT_REST: Duration = Duration::from_secs(50);
/// Seeds when nobody says how many.
const SEEDS: u64 = 20;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs one schedule to its end.
fn run(seed: u64, is_loud: bool) {
    fastrand::seed(seed);
    let plan = Plan::random();
    let world = Arc::new(World::new(is_loud));
    world.say(|| format!("seed {seed}: {plan:?}"));
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(AT_REST + Duration::from_secs(20))
        .tick_duration(Duration::from_millis(2))
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(Duration::from_millis(4))
        .tcp_capacity(4096)
        .build();
    cluster::hosts(&mut sim, &plan, &world);
    people::clients(&mut sim, &plan, &world);
    let mut faults = Faults::new(&plan, world.clone());
    loop {
        faults.step(&mut sim);
        if sim.step().expect("the simulation goes on") {
            break;
        }
    }
    world.check_totals();
}

#[test]
fn whatever_happens_the_promises_hold() {
    if let Some(seed) = variable("DPROXY_SIM_SEED") {
        return run(seed, true);
    }
    let first = variable("DPROXY_SIM_FIRST").unwrap_or(1);
    let last = first + variable("DPROXY_SIM_SEEDS").unwrap_or(SEEDS);
    let next = std::sync::atomic::AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if seed >= last {
                    return failed;
                }
                if catch_unwind(AssertUnwindSafe(|| run(seed, false))).is_err() {
                    println!("seed {seed} failed: DPROXY_SIM_SEED={seed} replays it");
                    failed.push(seed);
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    assert!(failed.is_empty(), "seeds {first} to {}: {failed:?} failed", last - 1);
    println!("{} seeds from {first} on held", last - first);
}
