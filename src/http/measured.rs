//! A role whose GETs are counted by status and timed, over lines and HTTP alike, and logged if there is an access log.
//!
//! Of the replies without a wait one in `SAMPLE` is timed, and its time is recorded for those that follow as well: two
//! readings of the clock would be a notable part of a hit. Every reply with a wait is timed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::access_log::AccessLog;
use crate::handler::{Answer, Ask, Handler};
use crate::per_core::PerCore;
use crate::stats::{Counter, Durations, Gauge, Histogram};
use crate::wire::reply::{Content, Data};
use crate::wire::{Reply, Request, Status};

/// One in this many replies without a wait is timed.
const SAMPLE: u64 = 64;

/// A role and the counters of its GETs.
pub struct Measured<H> {
    inner: Arc<H>,
    counters: Arc<GetCounters>,
    log: Option<Arc<AccessLog>>,
    http_port: OnceLock<u16>,
}

/// The counters: per core, so that cores do not wait for each other's cache lines.
#[derive(Default, Debug)]
pub struct GetCounters {
    cores: PerCore<Core>,
    in_flight: Gauge,
}

#[derive(Default, Debug)]
struct Core {
    by_status: [Counter; Status::ALL.len()],
    /// Requests that the role did not see.
    refused: [Counter; Status::ALL.len()],
    durations: Histogram,
    /// Replies without a wait.
    at_once: AtomicU64,
    /// The time of the last one that was timed.
    last_nanos: AtomicU64,
}

impl<H: Handler> Measured<H> {
    /// The role, with all counters at 0.
    pub fn new(inner: Arc<H>) -> Arc<Self> {
        Self::logged(inner, None)
    }

    /// The role, with all counters at 0; its requests are written to the access log.
    pub fn logged(inner: Arc<H>, log: Option<Arc<AccessLog>>) -> Arc<Self> {
        Arc::new(Self { inner, counters: Arc::default(), log, http_port: OnceLock::new() })
    }

    /// The role itself.
    #[cfg(test)]
    pub(super) fn inner(&self) -> &H {
        &self.inner
    }

    /// The counters since the start.
    pub fn counters(&self) -> &GetCounters {
        &self.counters
    }
}

impl<H: Handler> Measured<H> {
    fn metrics(&self, ask: Ask<'_>) -> Answer {
        let (counters, log) = (self.counters.clone(), self.log.clone());
        match self.inner.answer(ask) {
            Answer::Now(reply) => Answer::Now(counters.beside(reply, log.as_deref())),
            Answer::Later(reply) => {
                Answer::later(async move { counters.beside(reply.await, log.as_deref()) })
            }
        }
    }

    /// Answers, and counts a GET.
    fn counted(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        match ask.request {
            Request::Get(_) => {}
            Request::Metrics => return self.metrics(ask),
            _ => return self.inner.answer(ask),
        }
        let core = self.counters.cores.here();
        let is_timed = core.at_once.load(Ordering::Relaxed).is_multiple_of(SAMPLE);
        let began = is_timed.then(Instant::now);
        match self.inner.answer(ask) {
            Answer::Now(reply) => {
                core.at_once.fetch_add(1, Ordering::Relaxed);
                core.count(reply.status, began);
                Answer::Now(reply)
            }
            Answer::Later(reply) => Answer::later(self.counters.clone().time(reply)),
        }
    }

    /// Answers, and logs the reply.
    fn answer_logged(self: &Arc<Self>, log: &Arc<AccessLog>, ask: Ask<'_>) -> Answer {
        let Some(asked) = log.asked(&ask) else { return self.counted(ask) };
        match self.counted(ask) {
            Answer::Now(reply) => {
                log.replied(&asked, &reply);
                Answer::Now(reply)
            }
            Answer::Later(reply) => {
                let (log, asked) = (log.clone(), asked.into_owned());
                Answer::later(async move {
                    let reply = reply.await;
                    log.replied(&asked, &reply);
                    reply
                })
            }
        }
    }

    /// Says on which port HTTP is served: lines are told it.
    pub fn serves_http(&self, port: u16) {
        // A second port is served as the first one.
        let _ = self.http_port.set(port);
    }

    /// Counts a request that is refused before the role sees it.
    pub(crate) fn refused(&self, status: Status) {
        self.counters.cores.here().refused[status as usize].add_one();
    }
}

impl GetCounters {
    /// The number of GETs that ended with each status, and of requests that were refused with it.
    pub fn by_status(&self) -> impl Iterator<Item = (Status, u64)> + '_ {
        let of = |core: &Core, status: Status| {
            core.by_status[status as usize].get() + core.refused[status as usize].get()
        };
        Status::ALL
            .into_iter()
            .map(move |status| (status, self.cores.iter().map(|core| of(core, status)).sum()))
    }

    /// The number of requests that were refused before the role saw them, as a JSON object by status.
    fn refused(&self) -> String {
        let count =
            |status: Status| self.cores.iter().map(|core| core.refused[status as usize].get()).sum::<u64>();
        let counted: Map<String, Value> = Status::ALL
            .into_iter()
            .map(|status| (status.as_str().to_owned(), Value::from(count(status))))
            .filter(|(_, count)| *count != 0)
            .collect();
        Value::from(counted).to_string()
    }

    /// METRICS of the role, with the refusals and what became of the access log.
    fn beside(&self, mut metrics: Reply, log: Option<&AccessLog>) -> Reply {
        if let Content::Own { data: Data::Json(text), .. } = &mut metrics.content
            && text.pop() == Some('}')
        {
            let log = log.map(|log| json!({ "written": log.written(), "dropped": log.dropped() }));
            let log = Value::from(log);
            text.push_str(&format!(",\"refused\":{},\"access_log\":{log}}}", self.refused()));
        }
        metrics
    }

    /// The times from a GET to its reply.
    pub fn durations(&self) -> Durations {
        let mut durations = Durations::default();
        for core in self.cores.iter() {
            durations.add(&core.durations);
        }
        durations
    }

    /// GETs that wait for another node or for each other.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.get()
    }

    async fn time(self: Arc<Self>, reply: impl Future<Output = Reply>) -> Reply {
        let began = Instant::now();
        let reply = {
            let _in_flight = self.in_flight.enter();
            reply.await
        };
        let core = self.cores.here();
        core.durations.record(nanos_since(began));
        core.by_status[reply.status as usize].add_one();
        reply
    }
}

impl Core {
    /// An answer at once; `timed` since when, if it was.
    fn count(&self, status: Status, timed: Option<Instant>) {
        let nanos = match timed {
            Some(began) => {
                let nanos = nanos_since(began);
                self.last_nanos.store(nanos, Ordering::Relaxed);
                nanos
            }
            None => self.last_nanos.load(Ordering::Relaxed),
        };
        self.durations.record(nanos);
        self.by_status[status as usize].add_one();
    }
}

impl<H: Handler> Handler for Measured<H> {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        match &self.log {
            None => self.counted(ask),
            Some(log) => self.answer_logged(log, ask),
        }
    }

    fn http_port(&self) -> Option<u16> {
        self.http_port.get().copied()
    }

    fn error(&self, status: Status, text: String) -> Reply {
        self.refused(status);
        self.inner.error(status, text)
    }
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;
    use crate::wire::Key;

    /// Answers `now/…` at once, and everything else after 30 ms.
    struct Slow;

    impl Handler for Slow {
        fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
            match ask.request {
                Request::Get(key) if key.resource() == "now" => Answer::Now(Reply::null(Status::Ok)),
                _ => Answer::later(async {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Reply::null(Status::NotFound)
                }),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counts_every_get_and_nothing_else() {
        let measured = Measured::new(Arc::new(Slow));
        let ask = |request| Ask::new(request, IpAddr::V4(Ipv4Addr::LOCALHOST), Instant::now());
        for _ in 0..100 {
            measured.answer(ask(Request::Get(Key::parse("now/1").unwrap()))).reply().await;
        }
        measured.answer(ask(Request::Get(Key::parse("later/1").unwrap()))).reply().await;
        measured.answer(ask(Request::Metrics)).reply().await;
        let counters = measured.counters();
        let counts: Vec<_> = counters.by_status().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(Status::Ok, 100), (Status::NotFound, 1)]);
        assert_eq!((counters.durations().count(), counters.in_flight()), (101, 0));
        assert!(counters.durations().quantile(1.0).unwrap() > 0.02);
    }
}
