//! The origin: the single source of truth. It reads its store anew for every request and caches nothing.
//!
//! ```text
//!   a document        OK
//!   nothing           NOT_FOUND
//!   no document       BAD_DOCUMENT      the fault of the file
//!   no store          ORIGIN_FAILURE    the fault of the data directory: it says nothing about any document
//!   no turn, no fd    OVERLOADED        the fault of this process or its machine; so is a read that does not end
//! ```

pub mod changes;
mod complaints;
pub mod store;
pub mod watcher;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use self::changes::{ChangeMetrics, Changes};
use self::complaints::Complaints;
use self::store::{Store, StoreError};
use crate::admin::{Admins, FORBIDDEN};
use crate::certificates::{CertificateMetrics, Certificates};
use crate::handler::{Answer, Ask, Handler};
use crate::pool;
use crate::stats::{Counter, StartTime};
use crate::wire::request::METRICS_ALONE;
use crate::wire::{Document, KeyBuf, Reply, Request, Status};

/// Concurrent reads: a slow disk must not use up the threads of the pool.
const READS: usize = 32;
/// Requests that may read or wait for a read; more are OVERLOADED.
const MAX_WAITING: usize = 16 * 1024;
/// Pauses between looks at a document that is being replaced, from the first, doubled, to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// The text of the reply FORBIDDEN to a watcher.
const NO_WATCHER: &str = "this address may not watch for changes; see --watch-from";

/// The settings of an origin.
#[derive(Clone, Debug)]
pub struct OriginConfig {
    /// A request ends within this time: OVERLOADED when no read had a turn in the first half of it, or a read did not end: a
    /// busy machine or disk says nothing about the document. A document that is being replaced is read again within the first half.
    pub read_deadline: Duration,
    /// The addresses that may say that a document has changed.
    pub admins: Admins,
    /// The addresses that may watch for changes.
    pub watch_from: Admins,
    /// The certificates that METRICS tells of.
    pub certificates: Certificates,
}

impl OriginConfig {
    /// The number of requests at once that keeps the store busy: the [`enough`](crate::net::ServerLimits::enough) of the
    /// origin's server. More would only wait longer, and those of other clients behind them.
    pub fn enough(&self) -> usize {
        32 * READS
    }
}

impl Default for OriginConfig {
    fn default() -> Self {
        // Sooner than a proxy gives the fetch up: the client gets the reason.
        Self {
            read_deadline: Duration::from_millis(1500),
            admins: Admins::default(),
            watch_from: Admins::private(),
            certificates: Certificates::default(),
        }
    }
}

/// The role, over a store `S` of documents.
pub struct Origin<S> {
    store: Arc<S>,
    reads: Arc<Semaphore>,
    /// One permit per request that reads or waits for a read.
    places: Arc<Semaphore>,
    config: OriginConfig,
    changes: Arc<Changes>,
    start_time: StartTime,
    requests: Counter,
    found: Counter,
    missing: Counter,
    failed: Counter,
    overloaded: Counter,
    complaints: Complaints,
}

/// The `data` of METRICS.
#[derive(Serialize)]
struct Metrics {
    start_time: String,
    total_requests: u64,
    found: u64,
    not_found: u64,
    failed: u64,
    overloaded: u64,
    certificates: Option<CertificateMetrics>,
    /// Only while changes are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<ChangeMetrics>,
}

impl<S: Store> Origin<S> {
    /// An origin over a store, whose changes are seen when a time to live ends.
    pub fn new(store: S, config: OriginConfig) -> Arc<Self> {
        Self::telling(store, config, Changes::new(Duration::ZERO))
    }

    /// An origin over a store whose changes are told to whoever watches.
    pub fn telling(store: S, config: OriginConfig, changes: Arc<Changes>) -> Arc<Self> {
        Arc::new(Self {
            changes,
            store: Arc::new(store),
            reads: Arc::new(Semaphore::new(READS)),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
            config,
            start_time: StartTime::now(),
            requests: Counter::default(),
            found: Counter::default(),
            missing: Counter::default(),
            failed: Counter::default(),
            overloaded: Counter::default(),
            complaints: Complaints::default(),
        })
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            start_time: self.start_time.rfc3339(),
            total_requests: self.requests.get(),
            found: self.found.get(),
            not_found: self.missing.get(),
            failed: self.failed.get(),
            overloaded: self.overloaded.get(),
            certificates: self.config.certificates.metrics(),
            changes: self.changes.metrics(),
        }
    }

    async fn get(self: Arc<Self>, key: KeyBuf) -> Reply {
        self.requests.add_one();
        self.changes.note(key.as_key());
        // Before the read: what changes from now on is told after this.
        let position = self.changes.position();
        let read = match self.places.clone().try_acquire_owned() {
            Ok(_place) => self.read(&key).await,
            Err(_) => Err(StoreError::Busy("too many requests wait for the store of this origin")),
        };
        self.reply(&key, read).read_at(position)
    }

    /// Reads the document, again and again while it is being replaced.
    async fn read(&self, key: &KeyBuf) -> Result<Document, StoreError> {
        let began = Instant::now();
        let read_deadline = self.config.read_deadline;
        let (half, end) = (began + read_deadline / 2, began + read_deadline);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.read_once(key.clone(), half, end).await {
                Err(StoreError::Settling(error)) if Instant::now() + pause >= half => return Err(*error),
                Err(StoreError::Settling(_)) => sleep(pause).await,
                read => return read,
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Waits for a turn until `half`, and for the read until `end`.
    async fn read_once(&self, key: KeyBuf, half: Instant, end: Instant) -> Result<Document, StoreError> {
        let Ok(Ok(permit)) = timeout_at(half, self.reads.clone().acquire_owned()).await else {
            return Err(StoreError::Busy(
                "too many documents are read at this origin; none had a turn in time",
            ));
        };
        let store = self.store.clone();
        // The permit goes into the closure: a read that is given up still occupies its thread.
        let read = pool::run(move || {
            let _permit = permit;
            store.read(key.as_key())
        });
        match timeout_at(end, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(_panic)) => Err(StoreError::Unfit("the read of the document failed".into())),
            Err(_late) => Err(StoreError::Busy("the read of the document did not end in time")),
        }
    }

    /// The reply that a read comes to. Counts it, and logs what is wrong.
    fn reply(&self, key: &KeyBuf, read: Result<Document, StoreError>) -> Reply {
        if !matches!(read, Err(StoreError::Away(_) | StoreError::Busy(_))) {
            self.complaints.here();
        }
        let error = match read {
            Ok(document) => {
                self.complaints.sound(key.as_key());
                self.found.add_one();
                return Reply::document(document);
            }
            Err(error) => error,
        };
        let (status, count) = match &error {
            StoreError::Missing => {
                self.complaints.sound(key.as_key());
                self.missing.add_one();
                return Reply::null(Status::NotFound);
            }
            StoreError::Away(why) => {
                self.complaints.away(why);
                (Status::OriginFailure, &self.failed)
            }
            StoreError::Busy(_) => (Status::Overloaded, &self.overloaded),
            StoreError::Unfit(_) | StoreError::Settling(_) => {
                self.complaints.broken(key.as_key(), &error.to_string());
                (Status::BadDocument, &self.failed)
            }
        };
        count.add_one();
        Reply::text(status, error.to_string())
    }
}

impl<S: Store> Handler for Origin<S> {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        match ask.request {
            Request::Get(key) => Answer::later(self.clone().get(key.to_owned())),
            Request::Metrics => Answer::Now(Reply::json(&self.metrics())),
            Request::MetricsOf(_) => Answer::Now(Reply::text(Status::BadRequest, METRICS_ALONE)),
            Request::Watch(_) if !self.config.watch_from.has(ask.from) => {
                Answer::Now(Reply::text(Status::Forbidden, NO_WATCHER))
            }
            Request::Watch(watch) => Answer::later(self.changes.clone().watch(watch)),
            Request::Changed(_) if !self.config.admins.has(ask.from) => {
                Answer::Now(Reply::text(Status::Forbidden, FORBIDDEN))
            }
            Request::Changed(changed) => {
                let names = changed.patterns().map(|pattern| pattern.to_string()).collect();
                Answer::later(self.changes.clone().told(names, changed.wait_for_all))
            }
            Request::Purge { .. }
            | Request::Explain(_)
            | Request::Drain { .. }
            | Request::Undrain(_)
            | Request::Hello => {
                Answer::Now(Reply::text(Status::WrongMethod, "an origin answers GET, METRICS and CHANGED"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
