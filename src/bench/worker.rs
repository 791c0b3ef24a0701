//! What the connections of one thread share: the requests to send, the counts, and the queue of idle connections.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::BenchConfig;
use super::keys::{KeyOrder, Keys};
use super::measurements::{Failed, Measurements};
use super::schedule::{RunTimes, Schedule};
use crate::lock::lock;
use crate::net::dial::{Dialled, connect};
use crate::net::link::Pace;

/// The size of the buffer for reads. All connections of a thread share it, so that it stays in the processor's cache.
const READ_SIZE: usize = 128 * 1024;
/// A connection must be made within this time: the kernel repeats a lost SYN after a second, and then after two.
const CONNECT: Duration = Duration::from_millis(3_500);
/// The pause of a connection that was lost or refused before it dials again: a node that is down gets few dials.
const PAUSE: Duration = Duration::from_millis(20);

/// The load of one thread.
pub(super) struct Worker {
    pub(super) config: BenchConfig,
    /// The node's, so that its name is resolved once.
    address: IpAddr,
    /// Connections of this thread.
    pub(super) connections: usize,
    /// Of plain connections.
    pub(super) pace: Pace,
    /// Locked once for each batch of bytes, nearly always by the same thread: only the pacer and the progress bar lock it too.
    state: Mutex<WorkerState>,
}

pub(super) struct WorkerState {
    pub(super) schedule: Schedule,
    pub(super) keys: KeyOrder,
    pub(super) measurements: Measurements,
    pub(super) scratch: Vec<u8>,
    /// Connections of an open loop that wait until a request is due; the one that waits longest comes first.
    idle: VecDeque<(usize, Waker)>,
    is_idle: Vec<bool>,
}

impl Worker {
    /// The share of thread `index` of the whole load.
    pub(super) fn new(
        config: &BenchConfig,
        address: IpAddr,
        keys: &Keys,
        times: RunTimes,
        index: usize,
    ) -> Arc<Self> {
        let threads = config.threads();
        let connections = config.connections / threads + usize::from(index < config.connections % threads);
        let state = WorkerState {
            schedule: Schedule::new(times, config.requests(), config.rate, index, threads),
            keys: KeyOrder::new(keys.clone(), config.zipf, config.seed, index, threads),
            measurements: Measurements::new(times),
            scratch: vec![0; READ_SIZE],
            idle: VecDeque::new(),
            is_idle: vec![false; connections],
        };
        let pace = Pace::new(connections);
        Arc::new(Self { config: config.clone(), address, connections, pace, state: Mutex::new(state) })
    }

    pub(super) fn is_open_loop(&self) -> bool {
        self.config.rate.is_some()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, WorkerState> {
        // After a panic of another holder the counts are still usable: each changes in one step.
        lock(&self.state)
    }

    pub(super) async fn dial(&self) -> std::io::Result<Dialled> {
        let address = SocketAddr::new(self.address, self.config.peer.port);
        let within = CONNECT.min(self.config.timeout);
        let dialled = connect(&[address], within).await?;
        dialled.secured(self.config.tls.as_ref(), &self.config.peer.host, within).await
    }

    /// Waits for the start of the run, so that connecting is not part of it.
    pub(super) async fn wait_for_start(&self) {
        let start = self.state().measurements.times.start;
        tokio::time::sleep_until(start).await;
    }

    /// Pauses after a connection was refused or lost. Returns false when the run is over.
    pub(super) async fn pause(&self) -> bool {
        tokio::time::sleep(PAUSE).await;
        !self.state().schedule.is_over(Instant::now())
    }

    /// Counts a request that could not be sent because no connection was made. In an open loop it stays due: another
    /// connection may send it.
    pub(super) fn count_refused(&self) {
        let now = Instant::now();
        let mut state = self.state();
        if !self.is_open_loop()
            && let Some(due) = state.schedule.take(now)
        {
            state.measurements.failure(due, now, Failed::Refused);
        }
    }
}

impl WorkerState {
    /// How many requests a connection may take at once, so that requests that are due together spread over all connections.
    pub(super) fn share(&self, now: Instant) -> usize {
        let connections = self.is_idle.len() as u64;
        usize::try_from(self.schedule.backlog(now).div_ceil(connections)).unwrap_or(usize::MAX)
    }

    /// Wakes connection `index` when a request is due.
    pub(super) fn wait(&mut self, index: usize, cx: &Context<'_>) {
        if !std::mem::replace(&mut self.is_idle[index], true) {
            self.idle.push_back((index, cx.waker().clone()));
        }
    }

    /// Wakes up to `count` idle connections.
    pub(super) fn wake(&mut self, count: u64) {
        for _ in 0..count {
            let Some((index, waker)) = self.idle.pop_front() else { return };
            self.is_idle[index] = false;
            waker.wake();
        }
    }
}
