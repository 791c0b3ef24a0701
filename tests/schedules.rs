//! Single flight and purge under thousands of thread schedules: the source of `proxy/flight.rs` is built here with the
//! locks of shuttle, which picks the next thread at every lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dproxy::wire::{Key, KeyBuf, Pattern};
use shuttle::sync::Mutex;
use shuttle::{check_random, thread};

use self::flight::{Flights, Joined};

mod sync {
    pub(super) use shuttle::sync::{Mutex, MutexGuard};

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no test panics under a lock")
    }
}

#[expect(dead_code, reason = "the proxy uses all of it, these tests a part")]
#[path = "../src/proxy/flight.rs"]
mod flight;

const ORDERS: usize = 5_000;

fn key() -> Key<'static> {
    Key::parse("a/1").expect("a key")
}

/// An origin and a cache of one key, and the flights between them.
struct House {
    flights: Arc<Flights<u32>>,
    /// The document: a number that grows with each change.
    origin: AtomicU32,
    cache: Mutex<Option<u32>>,
    fetches: AtomicU32,
}

impl House {
    fn new() -> Arc<Self> {
        let flights = Flights::new(8, 8);
        Arc::new(Self {
            flights,
            origin: AtomicU32::new(0),
            cache: Mutex::new(None),
            fetches: AtomicU32::new(0),
        })
    }

    /// A GET as the proxy does it: the cache, else a flight.
    fn get(&self) -> u32 {
        if let Some(held) = *self.cache.lock().unwrap() {
            return held;
        }
        let (ticket, mut answer) = match self.flights.join(key()) {
            Joined::Leading(ticket, answer) => (Some(ticket), answer),
            Joined::Following(answer) => (None, answer),
            Joined::Full => panic!("there is room"),
        };
        if let Some(ticket) = ticket {
            let landed_meanwhile = *self.cache.lock().unwrap();
            if let Some(held) = landed_meanwhile {
                ticket.land(&held, || ());
                return held;
            }
            self.fetches.fetch_add(1, Ordering::Relaxed);
            thread::yield_now();
            let fetched = self.origin.load(Ordering::Relaxed);
            thread::yield_now();
            ticket.land(&fetched, || *self.cache.lock().unwrap() = Some(fetched));
        }
        loop {
            match answer.try_recv() {
                Ok(landed) => return landed,
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => thread::yield_now(),
                Err(closed) => panic!("a flight landed without a result: {closed}"),
            }
        }
    }

    fn purge(&self) {
        self.flights.purge(Pattern::One(key()), || *self.cache.lock().unwrap() = None);
    }
}

#[test]
fn after_a_purge_no_client_sees_the_old_document() {
    check_random(
        || {
            let house = House::new();
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let house = house.clone();
                    thread::spawn(move || house.get())
                })
                .collect();
            let changer = {
                let house = house.clone();
                thread::spawn(move || {
                    house.origin.store(1, Ordering::Relaxed);
                    house.purge();
                    assert_eq!(house.get(), 1, "a GET after the purge's reply");
                })
            };
            for reader in readers {
                reader.join().unwrap();
            }
            changer.join().unwrap();
            assert_eq!(house.get(), 1, "the cached document at rest");
        },
        ORDERS,
    );
}

#[test]
fn concurrent_requests_for_a_key_cost_one_fetch() {
    check_random(
        || {
            let house = House::new();
            let clients: Vec<_> = (0..3)
                .map(|_| {
                    let house = house.clone();
                    thread::spawn(move || house.get())
                })
                .collect();
            for client in clients {
                assert_eq!(client.join().unwrap(), 0);
            }
            assert_eq!(house.fetches.load(Ordering::Relaxed), 1);
        },
        ORDERS,
    );
}

#[test]
fn a_fetch_that_dies_frees_its_key() {
    check_random(
        || {
            let flights: Arc<Flights<u32>> = Flights::new(8, 8);
            let dying = {
                let flights = flights.clone();
                thread::spawn(move || match flights.join(key()) {
                    Joined::Leading(ticket, _) => drop(ticket),
                    Joined::Following(_) => {}
                    Joined::Full => panic!("there is room"),
                })
            };
            match flights.join(key()) {
                Joined::Leading(ticket, mut answer) => {
                    ticket.land(&7, || ());
                    assert_eq!(answer.try_recv(), Ok(7));
                }
                Joined::Following(mut answer) => {
                    dying.join().unwrap();
                    assert!(answer.try_recv().is_err());
                    assert!(matches!(flights.join(key()), Joined::Leading(..)), "the key is free again");
                    return;
                }
                Joined::Full => panic!("there is room"),
            }
            dying.join().unwrap();
            assert!(!flights.is_under_way("a/1"));
        },
        ORDERS,
    );
}
