//! The origin: the single source of truth. It reads its store anew for every request and caches nothing.

pub mod store;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::store::{Store, StoreError};
use crate::handler::{Answer, Ask, Handler};
use crate::pool;
use crate::stats::{Counter, StartTime};
use crate::wire::{KeyBuf, Reply, Request, Status};

/// Concurrent reads: a slow disk must not use up the threads of the pool.
const READS: usize = 32;
/// Requests that may read or wait for a read; more are OVERLOADED.
const MAX_WAITING: usize = 16 * 1024;

/// The settings of an origin.
#[derive(Clone, Copy, Debug)]
pub struct OriginConfig {
    /// A document that cannot be read within this time is BAD_DOCUMENT.
    pub read_deadline: Duration,
}

impl Default for OriginConfig {
    fn default() -> Self {
        // Sooner than a proxy gives the fetch up: the client gets the reason.
        Self { read_deadline: Duration::from_millis(1500) }
    }
}

/// The role, over a store `S` of documents.
pub struct Origin<S> {
    store: Arc<S>,
    reads: Arc<Semaphore>,
    /// One permit per request that reads or waits for a read.
    places: Arc<Semaphore>,
    config: OriginConfig,
    start_time: StartTime,
    requests: Counter,
    found: Counter,
    missing: Counter,
    failed: Counter,
}

/// The `data` of METRICS.
#[derive(Serialize)]
struct Metrics {
    start_time: String,
    total_requests: u64,
    found: u64,
    not_found: u64,
    failed: u64,
}

impl<S: Store> Origin<S> {
    /// An origin over a store.
    pub fn new(store: S, config: OriginConfig) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::new(store),
            reads: Arc::new(Semaphore::new(READS)),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            config,
            start_time: StartTime::now(),
            requests: Counter::default(),
            found: Counter::default(),
            missing: Counter::default(),
            failed: Counter::default(),
        })
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            start_time: self.start_time.rfc3339(),
            total_requests: self.requests.get(),
            found: self.found.get(),
            not_found: self.missing.get(),
            failed: self.failed.get(),
        }
    }

    async fn get(self: Arc<Self>, key: KeyBuf) -> Reply {
        self.requests.add_one();
        let Ok(_place) = self.places.clone().try_acquire_owned() else {
            return Reply::text(Status::Overloaded, "too many requests wait for the store of this origin");
        };
        let read = async {
            // The permit goes into the closure: a read that is given up still occupies its thread.
            let permit = self.reads.clone().acquire_owned().await.ok()?;
            let store = self.store.clone();
            let read = pool::run(move || {
                let _permit = permit;
                store.read(key.as_key())
            });
            read.await.ok()
        };
        match timeout(self.config.read_deadline, read).await {
            Ok(Some(Ok(document))) => {
                self.found.add_one();
                Reply::document(document)
            }
            Ok(Some(Err(StoreError::Missing))) => {
                self.missing.add_one();
                Reply::null(Status::NotFound)
            }
            Ok(Some(Err(StoreError::Unfit(why)))) => {
                self.failed.add_one();
                Reply::text(Status::BadDocument, why)
            }
            Ok(None) | Err(_) => {
                self.failed.add_one();
                Reply::text(Status::BadDocument, "the document could not be read in time")
            }
        }
    }
}

impl<S: Store> Handler for Origin<S> {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        match ask.request {
            Request::Get(key) => Answer::later(self.clone().get(key.to_owned())),
            Request::Metrics => Answer::Now(Reply::json(&self.metrics())),
            Request::Purge { .. }
            | Request::Explain(_)
            | Request::Drain(_)
            | Request::Undrain(_)
            | Request::Hello => {
                Answer::Now(Reply::text(Status::WrongMethod, "an origin answers GET and METRICS"))
            }
        }
    }
}
