//! One fetch per key at a time: whoever asks for a key that is being fetched waits for that fetch.
//!
//! A flight knows neither caches nor sockets. The fetch lives in its own task and holds a [`Ticket`]; who waits is woken by
//! the landing. A ticket that is dropped, because its task died, frees its key and fails those who wait.
//!
//! A purge takes flights off the map: those who waited already get the answer of a fetch that began before the purge, as
//! they did themselves; nobody joins it any more, and its landing commits nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

type ByKey<T> = HashMap<Arc<str>, Arc<Flight<T>>>;

/// The flights of a proxy; `T` is what a fetch brings.
pub(super) struct Flights<T> {
    by_key: Mutex<ByKey<T>>,
    max_flights: usize,
    max_waiters: usize,
}

struct Flight<T> {
    waiters: Mutex<Vec<oneshot::Sender<T>>>,
}

/// What became of the wish to know a key.
pub(super) enum Joined<T> {
    /// Nobody was fetching it: the asker has to see that it is done, with this ticket.
    Leading(Ticket<T>, oneshot::Receiver<T>),
    /// Somebody is.
    Following(oneshot::Receiver<T>),
    /// Too many flights, or too many who wait for this one.
    Full,
}

/// The right and the duty to land a flight.
pub(super) struct Ticket<T> {
    flights: Arc<Flights<T>>,
    key: Arc<str>,
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Flights<T> {
    /// At most `max_flights` at once, each awaited by at most `max_waiters`.
    pub(super) fn new(max_flights: usize, max_waiters: usize) -> Arc<Self> {
        Arc::new(Self { by_key: Mutex::default(), max_flights, max_waiters })
    }

    /// Waits for the key's flight, or begins it.
    pub(super) fn join(self: &Arc<Self>, key: &str) -> Joined<T> {
        let mut by_key = lock(&self.by_key);
        if let Some(flight) = by_key.get(key) {
            return match flight.wait(self.max_waiters) {
                Some(answer) => Joined::Following(answer),
                None => Joined::Full,
            };
        }
        let (waiter, answer) = oneshot::channel();
        match self.begin_in(&mut by_key, key, vec![waiter]) {
            Some(ticket) => Joined::Leading(ticket, answer),
            None => Joined::Full,
        }
    }

    /// Begins a flight that nobody waits for yet; `None` when there is one, or there is no room.
    pub(super) fn begin(self: &Arc<Self>, key: &str) -> Option<Ticket<T>> {
        let mut by_key = lock(&self.by_key);
        if by_key.contains_key(key) { None } else { self.begin_in(&mut by_key, key, Vec::new()) }
    }

    fn begin_in(
        self: &Arc<Self>,
        by_key: &mut ByKey<T>,
        key: &str,
        waiters: Vec<oneshot::Sender<T>>,
    ) -> Option<Ticket<T>> {
        if by_key.len() >= self.max_flights {
            return None;
        }
        let key: Arc<str> = key.into();
        let flight = Arc::new(Flight { waiters: Mutex::new(waiters) });
        by_key.insert(key.clone(), flight.clone());
        Some(Ticket { flights: self.clone(), key, flight })
    }

    /// Whether the key is being fetched.
    pub(super) fn is_under_way(&self, key: &str) -> bool {
        lock(&self.by_key).contains_key(key)
    }

    /// Lets nobody join the flights of matching keys any more, and nothing of them be committed.
    pub(super) fn disown(&self, mut matches: impl FnMut(&str) -> bool) {
        lock(&self.by_key).retain(|key, _| !matches(key));
    }
}

impl<T> Flight<T> {
    fn wait(&self, max_waiters: usize) -> Option<oneshot::Receiver<T>> {
        let mut waiters = lock(&self.waiters);
        if waiters.len() >= max_waiters {
            // Some may have left since.
            waiters.retain(|waiter| !waiter.is_closed());
        }
        if waiters.len() >= max_waiters {
            return None;
        }
        let (waiter, answer) = oneshot::channel();
        waiters.push(waiter);
        Some(answer)
    }
}

impl<T: Clone> Ticket<T> {
    /// Ends the flight and wakes all who wait.
    ///
    /// `commit` runs only if the flight was not disowned, and no [`Flights::disown`] runs between: what it stores was
    /// fetched after every purge that has been answered.
    pub(super) fn land(self, outcome: &T, commit: impl FnOnce()) {
        let mut by_key = lock(&self.flights.by_key);
        if self.is_owned(&by_key) {
            commit();
            by_key.remove(&self.key);
        }
        drop(by_key);
        for waiter in lock(&self.flight.waiters).drain(..) {
            // Who has left wants nothing.
            let _ = waiter.send(outcome.clone());
        }
    }
}

impl<T> Ticket<T> {
    fn is_owned(&self, by_key: &ByKey<T>) -> bool {
        by_key.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        let mut by_key = lock(&self.flights.by_key);
        if self.is_owned(&by_key) {
            by_key.remove(&self.key);
        }
        drop(by_key);
        lock(&self.flight.waiters).clear();
    }
}

/// What is locked here is changed in steps that cannot panic half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Arc<Flights<u32>>, key: &str) -> (Ticket<u32>, oneshot::Receiver<u32>) {
        match flights.join(key) {
            Joined::Leading(ticket, answer) => (ticket, answer),
            Joined::Following(_) | Joined::Full => panic!("nobody should be fetching {key}"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_all_are_told() {
        let flights = Flights::new(10, 10);
        let (ticket, first) = lead(&flights, "a/1");
        let Joined::Following(second) = flights.join("a/1") else { panic!("a/1 is under way") };
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
    async fn a_disowned_flight_commits_nothing() {
        let flights = Flights::new(10, 10);
        let (old, old_answer) = lead(&flights, "a/1");
        flights.disown(|key| key.starts_with("a/"));
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
        assert!(matches!(flights.join("a/2"), Joined::Full));
        let Joined::Following(second) = flights.join("a/1") else { panic!("there is room for two") };
        assert!(matches!(flights.join("a/1"), Joined::Full));
        drop(second);
        assert!(matches!(flights.join("a/1"), Joined::Following(_)), "the place of one who left is free");
    }
}
