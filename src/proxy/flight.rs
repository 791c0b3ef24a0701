//! Single flight: one fetch per key at a time. Requests for a key that is being fetched wait for that fetch.
//!
//! A flight knows neither caches nor sockets. The fetch runs in a task of its own, which holds a [`Ticket`]; landing the
//! ticket wakes the waiting requests. A ticket that is dropped, because its task died, frees its key and fails them.
//!
//! A purge removes flights from the map. Requests that wait already began before the purge, and so did the fetch whose
//! answer they get; later requests do not join it, and its landing commits nothing.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::sync::{Mutex, lock};
use super::{Key, KeyBuf, Pattern};

/// In the order of keys: a purge finds those of its prefix without a look at the others.
type ByKey<T> = BTreeMap<KeyBuf, Arc<Flight<T>>>;

/// The flights of a proxy; `T` is the outcome of a fetch.
pub(super) struct Flights<T> {
    by_key: Mutex<ByKey<T>>,
    max_flights: usize,
    max_waiters: usize,
}

struct Flight<T> {
    /// The requests that wait.
    waiters: Mutex<Vec<oneshot::Sender<T>>>,
}

/// How a request gets the outcome of a fetch.
pub(super) enum Joined<T> {
    /// There was no fetch of this key: the caller starts one, with this ticket.
    Leading(Ticket<T>, oneshot::Receiver<T>),
    /// A fetch is under way.
    Following(oneshot::Receiver<T>),
    /// There are `max_flights` flights, or `max_waiters` requests wait for this one.
    Full,
}

/// The right and the duty to land a flight.
pub(super) struct Ticket<T> {
    flights: Arc<Flights<T>>,
    key: KeyBuf,
    flight: Arc<Flight<T>>,
}

impl<T: Clone> Flights<T> {
    /// At most `max_flights` at once, each with at most `max_waiters` waiting requests.
    pub(super) fn new(max_flights: usize, max_waiters: usize) -> Arc<Self> {
        Arc::new(Self { by_key: Mutex::default(), max_flights, max_waiters })
    }

    /// Joins the flight of a key, or begins one.
    pub(super) fn join(self: &Arc<Self>, key: Key<'_>) -> Joined<T> {
        let mut by_key = lock(&self.by_key);
        if let Some(flight) = by_key.get(key.as_str()) {
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

    /// Begins a flight without waiting requests; `None` when the key has one already, or there are `max_flights`.
    pub(super) fn begin(self: &Arc<Self>, key: Key<'_>) -> Option<Ticket<T>> {
        let mut by_key = lock(&self.by_key);
        if by_key.contains_key(key.as_str()) { None } else { self.begin_in(&mut by_key, key, Vec::new()) }
    }

    fn begin_in(
        self: &Arc<Self>,
        by_key: &mut ByKey<T>,
        key: Key<'_>,
        waiters: Vec<oneshot::Sender<T>>,
    ) -> Option<Ticket<T>> {
        if by_key.len() >= self.max_flights {
            return None;
        }
        let key = key.to_owned();
        let flight = Arc::new(Flight { waiters: Mutex::new(waiters) });
        by_key.insert(key.clone(), flight.clone());
        Some(Ticket { flights: self.clone(), key, flight })
    }

    /// Whether the key is being fetched.
    pub(super) fn is_under_way(&self, key: &str) -> bool {
        lock(&self.by_key).contains_key(key)
    }

    /// Removes the flights of purged keys, and has `forget` purge the cache before another flight begins or lands.
    ///
    /// `forget` runs under the lock under which landings commit. A fetch from before the purge commits before it, so that
    /// `forget` misses nothing, or not at all; and no request joins a leader that found the old entry in the cache (see
    /// `Proxy::landed_meanwhile`). So `forget` must take about as long as a commit.
    pub(super) fn purge<R>(&self, pattern: Pattern<'_>, forget: impl FnOnce() -> R) -> R {
        let mut by_key = lock(&self.by_key);
        match pattern {
            Pattern::One(key) => drop(by_key.remove(key.as_str())),
            // Nobody knows the tags of what is under way.
            Pattern::Tagged(_) => by_key.clear(),
            Pattern::Beneath(prefix) => {
                let from = (Bound::Included(prefix), Bound::Unbounded);
                let beneath = by_key.range::<str, _>(from).map(|(key, _)| key);
                let purged: Vec<KeyBuf> =
                    beneath.take_while(|key| key.as_str().starts_with(prefix)).cloned().collect();
                purged.iter().for_each(|key| drop(by_key.remove(key)));
            }
        }
        forget()
    }
}

impl<T> Flight<T> {
    fn wait(&self, max_waiters: usize) -> Option<oneshot::Receiver<T>> {
        let mut waiters = lock(&self.waiters);
        if waiters.len() >= max_waiters {
            // Those that gave up make room.
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
    /// The key to fetch.
    pub(super) fn key(&self) -> &KeyBuf {
        &self.key
    }

    /// Tells, also after this ticket, whether a request waits for the fetch.
    pub(super) fn awaited(&self) -> impl Fn() -> bool + Send + use<T>
    where
        T: Send + 'static,
    {
        let flight = self.flight.clone();
        move || lock(&flight.waiters).iter().any(|waiter| !waiter.is_closed())
    }

    /// Ends the flight and wakes the waiting requests.
    ///
    /// `commit` runs only if the flight was not purged, and under the lock of the map, so that no purge comes in between:
    /// what it stores was fetched after every purge that has been answered.
    pub(super) fn land(self, outcome: &T, commit: impl FnOnce()) {
        let mut by_key = lock(&self.flights.by_key);
        if self.is_owned(&by_key) {
            commit();
            by_key.remove(&self.key);
        }
        drop(by_key);
        for waiter in lock(&self.flight.waiters).drain(..) {
            // Fails for a request that gave up: no harm.
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
