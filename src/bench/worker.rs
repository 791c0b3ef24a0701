//! What the connections of one thread share: the requests to ask, the counts, and the line of those with nothing to do.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::Mode;
use super::feed::Feed;
use super::keys::Order;
use super::tally::{Failure, Tally};
use crate::lock::lock;
use crate::net::transport::{self, Stream};

/// Room for one read, shared by all connections of a thread: it stays in the processor's cache.
const READ: usize = 128 * 1024;
/// A connection must be made within this time.
const CONNECT: Duration = Duration::from_secs(1);
/// After a connection was lost or refused, this long nothing is tried: a node that is gone is not hammered.
const PAUSE: Duration = Duration::from_millis(20);

/// What a thread is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) mode: Mode,
    /// Connections of this thread.
    pub(super) connections: usize,
    pub(super) in_flight: usize,
    pub(super) timeout: Duration,
    pub(super) is_open_loop: bool,
}

/// One thread's part of the load.
pub(super) struct Worker {
    pub(super) orders: Orders,
    /// Taken once for each batch of bytes, and but for the progress by one thread only.
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) feed: Feed,
    pub(super) order: Order,
    pub(super) tally: Tally,
    pub(super) scratch: Vec<u8>,
    /// Connections of an open loop that wait until a request is due, whoever has waited longest first.
    idle: VecDeque<(usize, Waker)>,
    is_idle: Vec<bool>,
}

impl Worker {
    pub(super) fn new(orders: Orders, feed: Feed, order: Order, tally: Tally) -> Arc<Self> {
        let state = State {
            feed,
            order,
            tally,
            scratch: vec![0; READ],
            idle: VecDeque::new(),
            is_idle: vec![false; orders.connections],
        };
        Arc::new(Self { orders, state: Mutex::new(state) })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Counts are whole after each step, so a panic elsewhere has not left them half changed.
        lock(&self.state)
    }

    pub(super) async fn dial(&self) -> std::io::Result<Stream> {
        let deadline = CONNECT.min(self.orders.timeout);
        transport::dial(&self.orders.address.to_string(), self.orders.port, deadline).await
    }

    /// Waits until all threads begin; what is connected by then costs the run no time.
    pub(super) async fn wait_for_start(&self) {
        let start = self.state().tally.window.start;
        tokio::time::sleep_until(start).await;
    }

    /// After a connection that was refused or lost: false when the run is over.
    pub(super) async fn pause(&self) -> bool {
        tokio::time::sleep(PAUSE).await;
        !self.state().feed.is_over(Instant::now())
    }

    /// Counts one request that could not even be sent. In an open loop it stays due: another connection may have a place.
    pub(super) fn refused(&self) {
        let now = Instant::now();
        let mut state = self.state();
        if !self.orders.is_open_loop
            && let Some(due) = state.feed.take(now)
        {
            state.tally.failure(due, now, Failure::Refused);
        }
    }
}

impl State {
    /// How many requests a connection may take at once, so that those that are due together are spread.
    pub(super) fn share(&self, now: Instant) -> usize {
        let connections = self.is_idle.len() as u64;
        usize::try_from(self.feed.backlog(now).div_ceil(connections)).unwrap_or(usize::MAX)
    }

    /// Wakes connection `index` when a request is due.
    pub(super) fn wait(&mut self, index: usize, cx: &Context<'_>) {
        if !std::mem::replace(&mut self.is_idle[index], true) {
            self.idle.push_back((index, cx.waker().clone()));
        }
    }

    /// Wakes so many of those that wait.
    pub(super) fn wake(&mut self, count: u64) {
        for _ in 0..count {
            let Some((index, waker)) = self.idle.pop_front() else { return };
            self.is_idle[index] = false;
            waker.wake();
        }
    }
}
