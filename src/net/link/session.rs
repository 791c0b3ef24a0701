//! One session with a peer: many callers share one connection, and each gets the reply to its own request.
//!
//! A caller appends its request line to a shared buffer and wakes the session's task. That task runs after all callers
//! that are ready, so the requests of a whole turn of the runtime leave in one write. The lock is held for a few copies in
//! memory and never across an await.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::calls::{Calls, Removed};
use super::{Awaited, LinkError, LinkLimits, Peer};
use crate::lock::lock;
use crate::trace::{self, Step};
use crate::wire::{Request, Tell};

/// Requests whose deadlines are closer together than this expire together.
const TICK: Duration = Duration::from_millis(1);

/// A deadline further away than this is not sent as `deadline=`: by default a proxy gives up a fetch by then anyway.
const LONGEST_DEADLINE: Duration = Duration::from_secs(2);

/// A session for fewer requests in flight than this leaves all of its places to them.
const MANY: usize = 64;

/// The stage of a session.
///
/// ```text
///   Offering ──▶ Granted ──▶ Open ──▶ Leaving ──▶ Over
///       │           └──▶ Plain └──▶ Over
///       ├──▶ Plain
///       └──▶ Over
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Connecting, and waiting for the answer to HELLO. Requests are queued.
    Offering,
    /// HELLO was answered with OK, and nothing else yet. Requests are sent. If the connection ends now, the answer came
    /// from elsewhere: the peer has no sessions, and has passed HELLO on.
    Granted,
    /// Requests are sent.
    Open,
    /// The peer's name has lost the address: requests in flight are still answered, and no other is sent.
    Leaving,
    /// The peer has no sessions.
    Plain,
    /// The connection ended, or was never made.
    Over,
}

/// A session, shared by its callers and its task.
pub(super) struct Session {
    pub(super) peer: Peer,
    pub(super) limits: LinkLimits,
    state: Mutex<SessionState>,
}

/// The part of a session that changes.
pub(super) struct SessionState {
    pub(super) stage: Stage,
    /// Why requests fail in the stages `Plain` and `Over`.
    error: LinkError,
    pub(super) calls: Calls<Call>,
    /// Requests that are not sent yet: the session is not open, or its limit of requests in flight is reached.
    queue: VecDeque<Queued>,
    /// Request lines that the session's task has not taken yet.
    pub(super) out: Vec<u8>,
    /// When [`SessionState::expire`] is due: at the first deadline of a request, or earlier.
    pub(super) next_deadline: Option<Instant>,
    /// The number of replies that have come.
    received: u64,
    /// Since when requests are in flight and no reply has come.
    quiet_since: Option<Instant>,
    /// Wakes the session's task.
    pub(super) task: Option<Waker>,
}

/// A request, queued or in flight, whose caller waits for the reply.
pub(super) struct Call {
    /// `None` once the result was sent to the caller.
    reply: Option<oneshot::Sender<Result<Bytes, LinkError>>>,
    deadline: Instant,
    /// [`SessionState::received`] when the request was sent.
    received_before: u64,
}

impl Call {
    fn finish(&mut self, result: Result<Bytes, LinkError>) {
        if let Some(reply) = self.reply.take() {
            // Fails when the caller no longer waits.
            let _ = reply.send(result);
        }
    }
}

/// A request that is not sent yet.
struct Queued {
    line: Vec<u8>,
    call: Call,
    /// The end of its wait: if it is not sent by then, it fails.
    until: Instant,
}

/// A request, and the options of its line.
pub(super) struct Outgoing<'a> {
    pub(super) request: Request<'a>,
    /// What a GET asks to be told beside the document.
    pub(super) tell: Tell<'a>,
    /// The step of a traced request: its identity is sent along.
    pub(super) step: Option<&'a Step>,
    pub(super) deadline: Instant,
    pub(super) now: Instant,
}

impl Outgoing<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        self.request.write(out);
        if !matches!(self.request, Request::Get(_)) {
            return;
        }
        self.tell.write(out);
        if let Some(step) = self.step {
            step.write_options(out);
        }
    }
}

impl Session {
    pub(super) fn new(peer: Peer, limits: LinkLimits) -> Self {
        let state = SessionState {
            stage: Stage::Offering,
            error: LinkError::Refused,
            calls: Calls::new(limits.max_in_flight),
            queue: VecDeque::new(),
            out: Vec::new(),
            next_deadline: None,
            received: 0,
            quiet_since: None,
            task: None,
        };
        Self { peer, limits, state: Mutex::new(state) }
    }

    pub(super) fn stage(&self) -> Stage {
        self.lock().stage
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SessionState> {
        lock(&self.state)
    }

    /// Sends a request at once; `None` when the session is not open, has as many in flight as it may, or has queued some.
    pub(super) fn call(
        &self,
        request: Request<'_>,
        tell: Tell<'_>,
        deadline: Instant,
        now: Instant,
    ) -> Option<Awaited> {
        let mut state = self.lock();
        // A request on a session that is not proven may have to be sent once more, plainly.
        if state.stage != Stage::Open || !state.can_send() {
            return None;
        }
        let step = trace::ask(&self.peer.host, self.peer.port).map(Box::new);
        let outgoing = Outgoing { request, tell, step: step.as_deref(), deadline, now };
        let reply = state.accept(&outgoing, &self.limits).ok()?;
        Some(Awaited { reply, step })
    }

    /// Sends or queues a request and waits for its reply.
    pub(super) async fn ask(&self, outgoing: &Outgoing<'_>) -> Result<Bytes, LinkError> {
        let (reply, stage) = {
            let mut state = self.lock();
            (state.accept(outgoing, &self.limits)?, state.stage)
        };
        if stage == Stage::Offering {
            // The session's task looks at deadlines only once the session is open, so this needs a timer. Boxed: the
            // future of a request on an open session, which needs none, must not be larger by the size of one.
            let reply = Box::pin(timeout_at(outgoing.deadline, reply)).await.map_err(|_| LinkError::Late)?;
            return reply.unwrap_or(Err(LinkError::Broken));
        }
        reply.await.unwrap_or(Err(LinkError::Broken))
    }

    /// Whether a check may take a place from requests: there are many, and most are free.
    pub(super) fn spares_a_place(&self) -> bool {
        let state = self.lock();
        state.calls.limit() >= MANY && state.calls.len() < state.calls.limit() / 2
    }

    /// Ends the session; all requests on it end with `error`.
    pub(super) fn close(&self, stage: Stage, error: LinkError) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Plain | Stage::Over) {
            return;
        }
        (state.stage, state.error) = (stage, error);
        state.calls.give_up(|_| true).for_each(|mut call| call.finish(Err(error)));
        std::mem::take(&mut state.queue).into_iter().for_each(|mut queued| queued.call.finish(Err(error)));
        if let Some(task) = state.task.take() {
            task.wake();
        }
    }
}

impl SessionState {
    /// Whether a request can be sent at once.
    fn can_send(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Granted) && !self.calls.is_full() && self.queue.is_empty()
    }

    /// Sends a request, or queues it. The reply comes out of the receiver.
    fn accept(
        &mut self,
        outgoing: &Outgoing<'_>,
        limits: &LinkLimits,
    ) -> Result<oneshot::Receiver<Result<Bytes, LinkError>>, LinkError> {
        let Outgoing { deadline, now, .. } = *outgoing;
        let (reply, receiver) = oneshot::channel();
        let call = Call { reply: Some(reply), deadline, received_before: 0 };
        let expires = if matches!(self.stage, Stage::Plain | Stage::Over) {
            return Err(self.error);
        } else if self.stage == Stage::Leaving {
            return Err(LinkError::Broken);
        } else if self.can_send() {
            self.send(call, now, |out| outgoing.write(out));
            deadline
        } else if self.queue.len() < limits.max_waiting {
            let mut line = Vec::with_capacity(64);
            outgoing.write(&mut line);
            let until = deadline.min(now + limits.max_wait);
            self.queue.push_back(Queued { line, call, until });
            until
        } else {
            return Err(LinkError::Busy);
        };
        if self.next_deadline.is_none_or(|next| expires < next) {
            self.next_deadline = Some(expires);
        }
        if let Some(task) = self.task.take() {
            task.wake();
        }
        Ok(receiver)
    }

    /// Appends a request to the lines to send. `write` writes it without id and deadline.
    fn send(&mut self, mut call: Call, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        call.received_before = self.received;
        self.quiet_since.get_or_insert(now);
        let left = call.deadline.saturating_duration_since(now);
        let id = self.calls.insert(call);
        self.out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        self.out.push(b' ');
        let start = self.out.len();
        write(&mut self.out);
        if left < LONGEST_DEADLINE && self.out[start..].starts_with(b"GET ") {
            self.out.extend_from_slice(b" deadline=");
            self.out.extend_from_slice(itoa::Buffer::new().format(left.as_millis() as u64).as_bytes());
        }
        self.out.push(b'\n');
    }

    /// Sends queued requests, as many as may be in flight, and drops those whose callers have given up.
    pub(super) fn send_queued(&mut self) {
        while !self.calls.is_full() {
            let Some(Queued { line, call, .. }) = self.queue.pop_front() else { return };
            let is_wanted = call.reply.as_ref().is_some_and(|reply| !reply.is_closed());
            if is_wanted {
                self.send(call, Instant::now(), |out| out.extend_from_slice(&line));
            }
        }
    }

    /// The peer has sessions.
    pub(super) fn is_proven(&mut self) {
        if self.stage == Stage::Granted {
            self.stage = Stage::Open;
        }
    }

    /// Takes no further requests; the session ends when those that wait are answered, or late.
    pub(super) fn leave(&mut self) {
        if matches!(self.stage, Stage::Granted | Stage::Open) {
            self.stage = Stage::Leaving;
            if let Some(task) = self.task.take() {
                task.wake();
            }
        }
    }

    /// Whether requests wait for a reply, or to be sent.
    pub(super) fn any_waits(&self) -> bool {
        self.calls.waiting().next().is_some() || !self.queue.is_empty()
    }

    /// Hands a reply to its caller. Fails when no request in flight has this id: then no other reply can be trusted.
    pub(super) fn deliver(&mut self, id: u64, result: Result<Bytes, LinkError>) -> Result<(), LinkError> {
        match self.calls.remove(id) {
            Removed::Waiting(mut call) => call.finish(result),
            Removed::GivenUp => {}
            Removed::Unknown => return Err(LinkError::Garbage),
        }
        self.received += 1;
        self.quiet_since = None;
        self.is_proven();
        Ok(())
    }

    /// Ends the requests whose deadlines have passed. Fails when the peer seems dead, or when requests that were given
    /// up, and never answered, take more than half of the places.
    ///
    /// The peer seems dead when one of the requests ended here was in flight, no reply to any request has come since that
    /// one was sent, and none for nine tenths of [`LinkLimits::patience`]. A short deadline alone proves nothing: an
    /// impatient client may have set it.
    pub(super) fn expire(&mut self, now: Instant, limits: &LinkLimits) -> Result<(), LinkError> {
        let quiet_since = if self.calls.len() > 0 { *self.quiet_since.get_or_insert(now) } else { now };
        let is_quiet = now.saturating_duration_since(quiet_since) >= limits.patience * 9 / 10;
        let (mut is_dead, received) = (false, self.received);
        for mut call in self.calls.give_up(|call| call.deadline <= now) {
            is_dead |= is_quiet && call.received_before == received;
            call.finish(Err(LinkError::Late));
        }
        self.queue.retain_mut(|Queued { call, until, .. }| {
            if *until <= now {
                call.finish(Err(if call.deadline <= now { LinkError::Late } else { LinkError::Busy }));
            }
            *until > now
        });
        let deadlines = self.calls.waiting().map(|call| call.deadline);
        let next = deadlines.chain(self.queue.iter().map(|queued| queued.until)).min();
        self.next_deadline = next.map(|next| next.max(now + TICK));
        let has_lost_half = self.calls.given_up() * 2 > self.calls.limit();
        if is_dead || has_lost_half { Err(LinkError::Broken) } else { Ok(()) }
    }
}
