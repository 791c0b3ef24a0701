//! One fetch per key at a time: whoever asks for a key that is being fetched waits for that fetch.
//!
//! A flight knows neither caches nor sockets. The fetch lives in its own task and holds a [`Ticket`]; who waits is woken by
//! the landing. A ticket that is dropped, because its task died, frees its key and fails those who wait.
//!
//! A purge takes flights off the map: those who waited already get the answer of a fetch that began before the purge, as
//! they did themselves; nobody joins it any more, and its landing commits nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::sync::{Mutex, MutexGuard, PoisonError};

type ByKey<T> = HashMap<Arc<str>, Arc<Flight<T>>>;

/// The flights of a proxy; `T` is what a fetch brings.
pub(super) struct Flights<T> {
    by_key: Mutex<ByKey<T>>,
    max_flights: AtomicUsize,
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
        let max_flights = AtomicUsize::new(max_flights);
        Arc::new(Self { by_key: Mutex::default(), max_flights, max_waiters })
    }

    /// From now on, so many at once. Those that are under way stay.
    pub(super) fn limit(&self, max_flights: usize) {
        self.max_flights.store(max_flights, Ordering::Relaxed);
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
        if by_key.len() >= self.max_flights.load(Ordering::Relaxed) {
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

    /// Forgets matching keys: what is under way, by `forget` what is held, and what took off in between.
    ///
    /// In this order a fetch that began before can commit nothing any more when `forget` looks, and nobody who comes after
    /// follows one that found in the cache what is being forgotten. What a new fetch commits in between was fetched after
    /// the purge began; asking for it again costs one more fetch.
    pub(super) fn purge<R>(&self, mut matches: impl FnMut(&str) -> bool, forget: impl FnOnce() -> R) -> R {
        let mut let_go = || lock(&self.by_key).retain(|key, _| !matches(key));
        let_go();
        let forgotten = forget();
        let_go();
        forgotten
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
    /// `commit` runs only if the flight was not purged, and no purge takes flights off the map meanwhile: what it stores was
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
