//! Replies on their way to the writer, a queue per core. Nothing is allocated per request once a queue has grown.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::Asked;
use crate::lock::lock;
use crate::per_core::PerCore;
use crate::stats::Counter;
use crate::wire::{Reply, Status};

/// The most requests that wait for the writer on each core: as many as are answered at once between two of its rounds.
const MOST: usize = 32 * 1024;
/// The most bytes of their keys.
const MOST_TEXT: usize = 2 << 20;

/// A request that was answered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Answered<'a> {
    pub(super) ended: Instant,
    pub(super) took: Duration,
    pub(super) from: IpAddr,
    pub(super) method: &'static str,
    pub(super) what: &'a str,
    pub(super) status: Status,
    /// Bytes of the document.
    pub(super) bytes: usize,
    pub(super) cache: Cached,
    /// The port of the proxy that answered; 0 is none.
    pub(super) port: u16,
    /// Its name; empty is none.
    pub(super) name: &'a str,
}

/// How a proxy had the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cached {
    Hit,
    Stale,
    Miss,
    /// No proxy answered.
    Unknown,
}

/// Records whose texts are one behind another in a buffer of their own.
#[derive(Default)]
pub(super) struct Batch {
    records: Vec<Flat>,
    text: String,
}

/// An [`Answered`] but for its texts, and how long these are.
struct Flat {
    record: Answered<'static>,
    what: u32,
    name: u32,
}

/// The queues of all cores.
#[derive(Default)]
pub(super) struct Queue {
    batches: PerCore<Mutex<Batch>>,
    dropped: Counter,
}

impl Queue {
    /// Adds a request and its reply, unless the queue of this core is full.
    pub(super) fn push(&self, asked: &Asked<'_>, reply: &Reply, now: Instant) {
        let told = reply.told();
        let cache = match (told.cache_hit, told.stale) {
            (None, _) => Cached::Unknown,
            (Some(_), true) => Cached::Stale,
            (Some(true), false) => Cached::Hit,
            (Some(false), false) => Cached::Miss,
        };
        let record = Answered {
            ended: now,
            took: now.saturating_duration_since(asked.began),
            from: asked.from,
            method: asked.method,
            what: &asked.what,
            status: reply.status,
            bytes: told.bytes,
            cache,
            port: told.node.unwrap_or(0),
            name: told.name.unwrap_or(""),
        };
        if !lock(self.batches.here()).push(&record) {
            self.dropped.add_one();
        }
    }

    /// Takes the waiting records of each core, into a batch for each; what the batches held is dropped.
    pub(super) fn take(&self, batches: &mut Vec<Batch>) {
        batches.resize_with(self.batches.count(), Batch::default);
        for (queue, batch) in self.batches.iter().zip(batches) {
            batch.clear();
            std::mem::swap(&mut *lock(queue), batch);
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

impl Batch {
    fn push(&mut self, record: &Answered<'_>) -> bool {
        let length = record.what.len() + record.name.len();
        if self.records.len() >= MOST || self.text.len() + length > MOST_TEXT {
            return false;
        }
        self.text.push_str(record.what);
        self.text.push_str(record.name);
        let (what, name) = (record.what.len() as u32, record.name.len() as u32);
        self.records.push(Flat { record: Answered { what: "", name: "", ..*record }, what, name });
        true
    }

    fn clear(&mut self) {
        self.records.clear();
        self.text.clear();
    }

    /// The records in the order in which they came.
    pub(super) fn records(&self) -> impl Iterator<Item = Answered<'_>> {
        let mut rest = self.text.as_str();
        self.records.iter().map(move |flat| {
            let (what, behind) = rest.split_at(flat.what as usize);
            let (name, behind) = behind.split_at(flat.name as usize);
            rest = behind;
            Answered { what, name, ..flat.record }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::Served;

    fn asked(what: &str) -> Asked<'_> {
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Asked { from, method: "GET", what: what.into(), began: Instant::now() }
    }

    #[tokio::test]
    async fn what_is_pushed_is_taken_with_its_texts() {
        let queue = Queue::default();
        let served = Served { cache_hit: true, node: 8001, name: Some("eu-1"), ..Served::default() };
        let reply = Reply::null(Status::NotFound);
        queue.push(&asked("a/1"), &reply.clone().with(served), Instant::now());
        queue.push(&asked("b/22"), &reply.clone().with(Served { stale: true, ..served }), Instant::now());
        queue.push(&asked("c/3"), &reply, Instant::now());
        let mut batches = Vec::new();
        queue.take(&mut batches);
        let told = |record: Answered<'_>| format!("{} {:?} {}", record.what, record.cache, record.name);
        let told: Vec<String> = batches.iter().flat_map(Batch::records).map(told).collect();
        assert_eq!(told, ["a/1 Hit eu-1", "b/22 Stale eu-1", "c/3 Unknown "]);
        queue.take(&mut batches);
        assert_eq!(batches.iter().flat_map(Batch::records).count(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts() {
        let (queue, reply) = (Queue::default(), Reply::null(Status::NotFound));
        for _ in 0..MOST + 3 {
            queue.push(&asked("a/1"), &reply, Instant::now());
        }
        assert_eq!(queue.dropped(), 3);
        let mut batches = Vec::new();
        queue.take(&mut batches);
        let long = "k".repeat(512);
        for _ in 0..MOST_TEXT / 512 + 2 {
            queue.push(&asked(&long), &reply, Instant::now());
        }
        assert_eq!(queue.dropped(), 5, "and so do long keys");
    }
}
