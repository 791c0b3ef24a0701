//! The promises of flights, one step at a time. `tests/schedules.rs` proves them under thousands of orders of threads.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::flight::{Flights, Joined, Ticket};
use crate::wire::{Key, Pattern};

fn key(path: &str) -> Key<'_> {
    Key::parse(path).unwrap()
}

fn lead(flights: &Arc<Flights<u32>>, path: &str) -> (Ticket<u32>, oneshot::Receiver<u32>) {
    match flights.join(key(path)) {
        Joined::Leading(ticket, answer) => (ticket, answer),
        Joined::Following(_) | Joined::Full => panic!("there should be no fetch of {path}"),
    }
}

#[tokio::test]
async fn one_request_leads_and_all_get_the_outcome() {
    let flights = Flights::new(10, 10);
    let (ticket, first) = lead(&flights, "a/1");
    let Joined::Following(second) = flights.join(key("a/1")) else { panic!("a/1 is under way") };
    let mut committed = false;
    ticket.land(&7, || committed = true);
    assert!(committed);
    assert_eq!((first.await, second.await), (Ok(7), Ok(7)));
    assert!(!flights.is_under_way("a/1"));
}

#[tokio::test]
async fn a_dead_fetch_frees_its_key() {
    let flights = Flights::new(10, 10);
    let (ticket, answer) = lead(&flights, "a/1");
    drop(ticket);
    assert!(answer.await.is_err());
    lead(&flights, "a/1");
}

#[tokio::test]
async fn a_purged_flight_commits_nothing() {
    let flights = Flights::new(10, 10);
    let (old, old_answer) = lead(&flights, "a/1");
    flights.purge(Pattern::Beneath("a/"), || ());
    let (new, new_answer) = lead(&flights, "a/1");
    old.land(&1, || panic!("it began before the purge"));
    assert!(flights.is_under_way("a/1"), "the landing of the old flight leaves the new one alone");
    let mut committed = false;
    new.land(&2, || committed = true);
    assert!(committed);
    assert_eq!((old_answer.await, new_answer.await), (Ok(1), Ok(2)));
}

#[tokio::test]
async fn flights_and_waiters_are_bounded() {
    let flights = Flights::new(1, 2);
    let (_ticket, _first) = lead(&flights, "a/1");
    assert!(matches!(flights.join(key("a/2")), Joined::Full));
    let Joined::Following(second) = flights.join(key("a/1")) else { panic!("there is room for two") };
    assert!(matches!(flights.join(key("a/1")), Joined::Full));
    drop(second);
    assert!(
        matches!(flights.join(key("a/1")), Joined::Following(_)),
        "the place of a request that gave up is free"
    );
}
