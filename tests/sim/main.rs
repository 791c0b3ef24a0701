//! Whole clusters on a simulated network, under random schedules of faults.
//!
//! How to run it, and how to replay a seed: `tests/README.md`. A seed decides the size of the cluster, its strategy and
//! settings, every fault and its time, what clients ask, and so the whole run.
#![cfg(sim)]
#![expect(clippy::print_stdout, reason = "the seed of a schedule is what a reader needs")]

mod auditor;
mod cluster;
mod editor;
mod faults;
mod judge;
mod ledger;
mod operator;
mod readers;
mod record;
mod roster;
mod watched;
mod world;

use std::cell::Cell;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::cluster::{Lack, Plan};
use crate::faults::Faults;
use crate::world::World;

/// The end of faults; all are repaired.
const FAULTS_END: Duration = Duration::from_secs(20);
/// The end of client requests.
const CLIENTS_END: Duration = Duration::from_secs(25);
/// The audit: nothing may be left.
const AT_REST: Duration = Duration::from_secs(33);
/// The default number of seeds.
const SEEDS: u64 = 20;

thread_local! {
    /// Whether a task panicked on this thread: the runtime catches panics of its tasks.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs one schedule to its end; returns the digest of its events, `None` if a promise was broken.
///
/// On a new thread: buffers that a thread keeps would influence its next run.
fn run(seed: u64, is_loud: bool) -> Option<u64> {
    let thread = std::thread::Builder::new().name(format!("seed {seed}"));
    thread.spawn(move || schedule(seed, is_loud)).expect("a thread").join().ok()
}

fn schedule(seed: u64, is_loud: bool) -> u64 {
    note_panics();
    fastrand::seed(seed);
    let plan = match seed % 8 {
        0 => Plan::calm(Lack::Upstream),
        4 => Plan::calm(Lack::Downstream),
        2 | 6 => Plan::told(),
        _ => Plan::random(),
    };
    let world = Arc::new(World::new(plan, is_loud));
    world.record.note(Duration::ZERO, format_args!("seed {seed}: {:?}", world.plan));
    let mut sim = turmoil::Builder::new()
        .rng_seed(fastrand::u64(..))
        .epoch(std::time::UNIX_EPOCH)
        .simulation_duration(AT_REST + Duration::from_secs(20))
        .tick_duration(Duration::from_millis(3))
        .min_message_latency(Duration::from_micros(100))
        .max_message_latency(Duration::from_millis(4))
        .tcp_capacity(4096)
        .build();
    cluster::hosts(&mut sim, &world);
    people(&mut sim, &world);
    let mut faults = Faults::new(world.clone());
    loop {
        faults.step(&mut sim);
        if sim.step().expect("the simulation goes on") {
            break;
        }
    }
    assert!(!PANICKED.get(), "a task panicked");
    world.check_totals();
    // Random numbers without a visible effect count as well.
    world.record.note(sim.elapsed(), format_args!("the next number is {}", fastrand::u64(..)));
    world.record.digest()
}

/// All clients, on one host: every host costs time at each step.
fn people(sim: &mut turmoil::Sim<'_>, world: &Arc<World>) {
    let world = world.clone();
    sim.client("people", async move {
        tokio::join!(
            readers::through_links(&world),
            readers::through_links(&world),
            readers::plainly(&world),
            readers::in_sessions(&world, "a"),
            readers::in_sessions(&world, "b"),
            readers::in_trouble(&world),
            editor::edit(&world),
            operator::operate(&world, 0),
            operator::operate(&world, 1),
            auditor::audit(&world),
        );
        Ok(())
    });
}

fn note_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            tell(panic);
        }));
    });
}

/// Runs one schedule in a process of its own, as its replay is. Where two share one, they share the numbers that tokio gives to
/// tasks, and a crash drops the tasks of a host in an order that follows those.
fn run_apart(seed: u64) -> Option<u64> {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "whatever_happens_the_promises_hold", "--nocapture"])
        .env("DPROXY_SIM_SEED", seed.to_string())
        .env("DPROXY_SIM_LOUD", "0")
        .output()
        .expect("another process");
    let told = String::from_utf8_lossy(&output.stdout);
    let is = format!("seed {seed} is ");
    let digest = told.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(&is)?, 16).ok());
    if digest.is_none() {
        println!("{}", String::from_utf8_lossy(&output.stderr));
    }
    digest
}

/// Runs these seeds on all cores; returns the failed ones and a digest of all.
fn run_all(first: u64, last: u64) -> (Vec<u64>, u64) {
    let (next, all) = (AtomicU64::new(first), AtomicU64::new(0));
    let threads = variable("DPROXY_SIM_THREADS").map(|threads| threads as usize);
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let work = || {
        let mut failed = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return failed;
            }
            match run_apart(seed) {
                // Independent of the order in which they end.
                Some(digest) => drop(all.fetch_add(digest, Ordering::Relaxed)),
                None => {
                    println!("seed {seed} failed: DPROXY_SIM_SEED={seed} replays it");
                    failed.push(seed);
                }
            }
        }
    };
    let mut failed: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    failed.sort_unstable();
    (failed, all.into_inner())
}

#[test]
fn whatever_happens_the_promises_hold() {
    if let Some(seed) = variable("DPROXY_SIM_SEED") {
        let is_loud = variable("DPROXY_SIM_LOUD").is_none_or(|loud| loud > 0);
        let digest = run(seed, is_loud).expect("the promises hold");
        println!("seed {seed} is {digest:016x}");
        return;
    }
    let first = variable("DPROXY_SIM_FIRST").unwrap_or(1);
    let last = first + variable("DPROXY_SIM_SEEDS").unwrap_or(SEEDS) - 1;
    let (failed, all) = run_all(first, last);
    assert!(failed.is_empty(), "of seeds {first} to {last}, {failed:?} failed");
    println!("seeds {first} to {last} held, together they are {all:016x}");
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    for seed in [1, 2, 3] {
        // At the same time, so that they share the machine.
        let digests: Vec<Option<u64>> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| run_apart(seed))).collect();
            runs.into_iter().map(|run| run.join().expect("a thread")).collect()
        });
        let is_same = digests[0].is_some() && digests.iter().all(|digest| *digest == digests[0]);
        assert!(is_same, "seed {seed}: {digests:x?}");
    }
}
