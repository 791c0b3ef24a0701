//! One session with a peer: many callers put their requests on one connection, and each gets its own reply.
//!
//! A caller writes its line into a shared buffer and wakes the session's task, which runs after all callers that are
//! ready: the requests of a whole turn of the runtime leave in one write. The lock is held for a few moves of memory and
//! never across a wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::calls::{Call, Calls};
use super::{Awaited, LinkError, LinkLimits, Peer};
use crate::lock::lock;
use crate::trace::{self, Step};
use crate::wire::Request;

/// Deadlines closer together than this are looked at together.
const TICK: Duration = Duration::from_millis(1);

/// A fetch of a proxy ends within this by itself.
const WORTH_SAYING: Duration = Duration::from_secs(2);

/// What has become of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Being connected and offered.
    Offering,
    /// In use.
    Open,
    /// The peer has no sessions.
    Plain,
    /// Ended, or never begun because the peer could not be reached.
    Over,
}

pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) limits: LinkLimits,
    pub(super) inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub(super) state: State,
    /// What callers are told once it is over.
    pub(super) error: LinkError,
    pub(super) calls: Calls,
    /// Requests for which there is no place in flight yet.
    pub(super) waiting: VecDeque<Waiting>,
    /// Lines that have not been handed to the socket.
    pub(super) out: Vec<u8>,
    pub(super) max_in_flight: usize,
    /// When the first caller gives up; never later than that, sometimes earlier.
    pub(super) next_deadline: Option<Instant>,
    /// How many replies have come.
    pub(super) received: u64,
    /// Since when requests are in flight and no reply has come.
    quiet_since: Option<Instant>,
    /// The session's task.
    pub(super) task: Option<Waker>,
}

pub(super) struct Waiting {
    line: Vec<u8>,
    call: Call,
    /// When it has waited for too long.
    until: Instant,
}

impl Session {
    /// Not offered yet.
    pub(super) fn new(peer: Peer, limits: LinkLimits) -> Self {
        let inner = Inner {
            state: State::Offering,
            error: LinkError::Refused,
            calls: Calls::default(),
            waiting: VecDeque::new(),
            out: Vec::new(),
            max_in_flight: limits.max_in_flight,
            next_deadline: None,
            received: 0,
            quiet_since: None,
            task: None,
        };
        Self { peer, limits, inner: Mutex::new(inner) }
    }

    pub(super) fn state(&self) -> State {
        self.lock().state
    }

    /// Ends it: nobody will ask any more.
    pub(super) fn end(&self) {
        self.close(State::Over, LinkError::Broken);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Puts a request on its way, if the session is open and has a place for it.
    pub(super) fn call(
        &self,
        request: Request<'_>,
        tell_times: bool,
        deadline: Instant,
        now: Instant,
    ) -> Option<Awaited> {
        let mut inner = self.lock();
        if inner.state != State::Open || !inner.has_place() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        let step = trace::ask(&self.peer.host, self.peer.port).map(Box::new);
        let order = Order { request, tell_times, step: step.as_deref() };
        inner.take(&order, reply, deadline, now, &self.limits).ok()?;
        Some(Awaited { answer, step })
    }

    /// Asks one request and waits for its reply.
    pub(super) async fn ask(
        &self,
        order: &Order<'_>,
        deadline: Instant,
        now: Instant,
    ) -> Result<Bytes, LinkError> {
        let (reply, answer) = oneshot::channel();
        let offering = self.lock().take(order, reply, deadline, now, &self.limits)? == State::Offering;
        if offering {
            // The task looks at deadlines only once the session is open.
            // Boxed, so that who asks over an open session does not carry the room for a timer.
            return Box::pin(timeout_at(deadline, answer))
                .await
                .map_err(|_| LinkError::Late)?
                .unwrap_or(Err(LinkError::Broken));
        }
        answer.await.unwrap_or(Err(LinkError::Broken))
    }

    /// Ends it, and tells everyone who waits.
    pub(super) fn close(&self, state: State, error: LinkError) {
        let (mut calls, waiting, task) = {
            let mut inner = self.lock();
            if matches!(inner.state, State::Plain | State::Over) {
                return;
            }
            (inner.state, inner.error) = (state, error);
            (std::mem::take(&mut inner.calls), std::mem::take(&mut inner.waiting), inner.task.take())
        };
        calls
            .drain()
            .chain(waiting.into_iter().map(|waiting| waiting.call))
            .for_each(|mut call| call.finish(Err(error)));
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Inner {
    /// Whether a request can be sent at once.
    fn has_place(&self) -> bool {
        self.calls.len() < self.max_in_flight && self.waiting.is_empty()
    }

    /// Takes a request in; tells in which state.
    fn take(
        &mut self,
        order: &Order<'_>,
        reply: oneshot::Sender<Result<Bytes, LinkError>>,
        deadline: Instant,
        now: Instant,
        limits: &LinkLimits,
    ) -> Result<State, LinkError> {
        let call = Call { reply: Some(reply), deadline, received_before: self.received };
        match self.state {
            State::Plain | State::Over => return Err(self.error),
            State::Open if self.has_place() => {
                let left =
                    matches!(order.request, Request::Get(_)).then(|| deadline.saturating_duration_since(now));
                self.quiet_since.get_or_insert(now);
                self.send(call, left, |out| order.write(out));
            }
            State::Open | State::Offering if self.waiting.len() < limits.max_waiting => {
                let mut line = Vec::with_capacity(64);
                order.write(&mut line);
                self.waiting.push_back(Waiting { line, call, until: deadline.min(now + limits.max_wait) });
            }
            State::Open | State::Offering => return Err(LinkError::Busy),
        }
        let first = self.waiting.back().map_or(deadline, |waiting| waiting.until.min(deadline));
        let sooner = self.next_deadline.is_none_or(|next| first < next);
        if sooner {
            self.next_deadline = Some(first);
        }
        if let Some(task) = self.task.take() {
            task.wake();
        }
        Ok(self.state)
    }

    /// Writes a line, and the time that its asker still has.
    fn send(&mut self, call: Call, left: Option<Duration>, write: impl FnOnce(&mut Vec<u8>)) {
        let id = self.calls.insert(call);
        self.out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        self.out.push(b' ');
        write(&mut self.out);
        // A peer's own limits are not longer than this, so only less is worth a word.
        if let Some(left) = left.filter(|left| *left < WORTH_SAYING) {
            self.out.extend_from_slice(b" deadline=");
            self.out.extend_from_slice(itoa::Buffer::new().format(left.as_millis() as u64).as_bytes());
        }
        self.out.push(b'\n');
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn promote(&mut self) {
        while self.calls.len() < self.max_in_flight {
            let Some(Waiting { line, mut call, .. }) = self.waiting.pop_front() else { return };
            if call.is_given_up() {
                continue;
            }
            call.received_before = self.received;
            let deadline = call.deadline;
            let now = Instant::now();
            self.quiet_since.get_or_insert(now);
            let left = line.starts_with(b"GET ").then(|| deadline.saturating_duration_since(now));
            self.send(call, left, |out| out.extend_from_slice(&line));
        }
    }

    /// Hands a reply to its caller.
    pub(super) fn deliver(&mut self, id: u64, result: Result<Bytes, LinkError>) -> Result<(), LinkError> {
        // An id that is not in flight: the peer has lost count, and no further word of it can be trusted.
        self.calls.take(id).ok_or(LinkError::Garbage)?.finish(result);
        self.received += 1;
        self.quiet_since = None;
        Ok(())
    }

    /// Tells the callers whose time is up. Fails when no reply at all has come since the request of one of them, for long.
    pub(super) fn expire(&mut self, now: Instant, limits: &LinkLimits) -> Result<(), LinkError> {
        let mut next: Option<Instant> = None;
        // Deadlines may be those of impatient askers, which prove nothing of the peer.
        // With nothing in flight, nobody is silent.
        let quiet_since = if self.calls.len() > 0 { *self.quiet_since.get_or_insert(now) } else { now };
        let is_quiet = now.saturating_duration_since(quiet_since) >= limits.patience * 9 / 10;
        let (mut silent, mut given_up) = (false, 0);
        for call in self.calls.iter_mut() {
            if call.deadline <= now && call.reply.is_some() {
                silent |= call.received_before == self.received && is_quiet;
                call.finish(Err(LinkError::Late));
            }
            match call.reply {
                None => given_up += 1,
                Some(_) => next = Some(next.map_or(call.deadline, |next| next.min(call.deadline))),
            }
        }
        self.waiting.retain_mut(|Waiting { call, until, .. }| {
            let may_wait = *until > now;
            if may_wait {
                next = Some(next.map_or(*until, |next| next.min(*until)));
            } else {
                call.finish(Err(if call.deadline <= now { LinkError::Late } else { LinkError::Busy }));
            }
            may_wait
        });
        self.next_deadline = next.map(|next| next.max(now + TICK));
        // Places are given back by late replies; a peer that owes too many has forgotten them.
        let owes_too_much = given_up * 2 > self.max_in_flight;
        if silent || owes_too_much { Err(LinkError::Broken) } else { Ok(()) }
    }
}

/// What is written of a request.
pub(super) struct Order<'a> {
    pub(super) request: Request<'a>,
    /// Whether the peer is asked to tell the times of the document.
    pub(super) tell_times: bool,
    /// What is known of the request that it is asked for.
    pub(super) step: Option<&'a Step>,
}

impl Order<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        self.request.write(out);
        if !matches!(self.request, Request::Get(_)) {
            return;
        }
        if self.tell_times {
            out.extend_from_slice(b" tell=times");
        }
        if let Some(step) = self.step {
            step.write_options(out);
        }
    }
}
