//! The operator changes the list of proxies of a balancer, drains proxies and undrains them.

use std::collections::BTreeMap;

use dproxy::net::Link;
use dproxy::wire::{ReplyView, Request, Status};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::FAULTS_END;
use crate::auditor::metrics;
use crate::cluster::{PORT, balancer, proxy};
use crate::readers::{PATIENCE, link, pause};
use crate::roster::NOTICE;
use crate::world::{World, now};

/// Operates one balancer until the faults end; then it has all proxies again.
pub(crate) async fn operate(world: &World, of: usize) {
    let link = link(&balancer(of));
    while now() < FAULTS_END {
        pause(4_000).await;
        let (listed, drained, used) = world.roster.seated(of);
        // At least two are left, so that the promises still apply.
        let index = fastrand::usize(..world.plan.proxies);
        match fastrand::u8(..6) {
            0 | 1 if used > 2 && listed.contains(&index) => drop(turn(world, &link, of, index, true).await),
            2 if !drained.is_empty() => {
                let index = drained[fastrand::usize(..drained.len())];
                turn(world, &link, of, index, false).await;
            }
            3 | 4 => list(world, of, &some_proxies(world, &drained)).await,
            5 => spoil_list(world, of).await,
            _ => {}
        }
    }
    list(world, of, &(0..world.plan.proxies).collect::<Vec<_>>()).await;
    for index in 0..world.plan.proxies {
        while !turn(world, &link, of, index, false).await {
            pause(200).await;
        }
    }
}

/// At least two undrained proxies, in any order.
fn some_proxies(world: &World, drained: &[usize]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..world.plan.proxies).collect();
    fastrand::shuffle(&mut all);
    all.sort_by_key(|index| drained.contains(index));
    all.truncate(fastrand::usize(2..=all.len()));
    fastrand::shuffle(&mut all);
    all
}

/// A line of the list.
fn line(index: usize) -> String {
    let weight = ["", " 2", " 0.5 # a small one"][fastrand::usize(..3)];
    format!("{}:{PORT}{weight}", proxy(index))
}

/// Drains or undrains a node; whether the request was answered.
async fn turn(world: &World, link: &Link, of: usize, index: usize, drain: bool) -> bool {
    let name = format!("{}:{PORT}", proxy(index));
    let request = if drain { Request::Drain { node: &name, force: true } } else { Request::Undrain(&name) };
    world.roster.turn(of, index);
    let asked = now();
    let told = link.ask_apart(request, Instant::now() + PATIENCE).await;
    world.note(format_args!("lb{of} is told to use {name}: {}, and says {told:?}", !drain));
    let is_done = told.is_ok_and(|line| ReplyView::parse(&line).expect("a reply").status == Status::Ok);
    // A restarted balancer has forgotten it, unless it keeps its state.
    let is_known = is_done && (world.plan.durable || world.was_unbroken(&balancer(of), asked));
    if is_known {
        world.roster.turned(of, index, drain);
    }
    is_known
}

/// Changes the list and checks that it is applied: nodes that stay keep their counts.
async fn list(world: &World, of: usize, listed: &[usize]) {
    let began = now();
    let before = nodes(world, of).await;
    world.note(format_args!("lb{of} shall have {listed:?}"));
    world.roster.list(of, listed);
    world.roster.write(of, &listed.iter().map(|index| line(*index)).collect::<Vec<_>>());
    if fastrand::bool() {
        world.roster.reload(of);
    }
    sleep(NOTICE).await;
    follows(world, of, listed, before, began).await;
}

/// Writes a bad list for a while: the balancer keeps its nodes.
async fn spoil_list(world: &World, of: usize) {
    let began = now();
    let before = nodes(world, of).await;
    let (listed, ..) = world.roster.seated(of);
    world.note(format_args!("the list of lb{of} is a bad one"));
    world.roster.write(of, &[line(0), format!("{}:", proxy(1))]);
    world.roster.reload(of);
    sleep(NOTICE).await;
    follows(world, of, &listed, before, began).await;
    world.roster.write(of, &listed.iter().map(|index| line(*index)).collect::<Vec<_>>());
    sleep(NOTICE).await;
}

/// The requests of each node by a balancer's METRICS.
async fn nodes(world: &World, of: usize) -> Option<BTreeMap<String, u64>> {
    let told = metrics(&balancer(of)).await?;
    world.record.say(|| format!("lb{of}: {told}"));
    let proxies = told["proxies"].as_object().expect("the proxies");
    let requests = |node: &Value| node["requests"].as_u64().expect("a number");
    Some(proxies.iter().map(|(name, node)| (name.clone(), requests(node))).collect())
}

async fn follows(
    world: &World,
    of: usize,
    listed: &[usize],
    before: Option<BTreeMap<String, u64>>,
    began: std::time::Duration,
) {
    let after = nodes(world, of).await;
    let (Some(before), Some(after)) = (before, after) else { return };
    if !world.was_unbroken(&balancer(of), began) {
        return;
    }
    let mut names: Vec<String> = listed.iter().map(|index| format!("{}:{PORT}", proxy(*index))).collect();
    names.sort();
    assert!(after.keys().eq(&names), "lb{of} has {after:?}");
    for (name, requests) in &after {
        let stays = before.get(name).is_none_or(|before| before <= requests);
        assert!(stays, "{name} has forgotten what it was: {before:?}, {after:?}");
    }
}
