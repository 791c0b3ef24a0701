//! What a node uses to ask one peer: sessions where the peer has them, else one connection per request.
//!
//! ```text
//!   offering ──OK──▶ session ──lost──▶ offering
//!       └──any other answer, a close──▶ plain ──offered again from time to time──▶ session | plain
//! ```
//! One session per core, so that a caller and the session that carries its request share a thread. All is bounded:
//! connections, requests in flight and waiting, and the time of each.

mod calls;
mod error;
mod opening;
mod peer;
mod plain;
mod reading;
mod session;
mod traffic;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub use self::error::LinkError;
pub(crate) use self::opening::hello;
pub use self::peer::{Peer, PeerError};
use self::plain::Room;
pub(crate) use self::plain::exchange;
use self::session::{Order, Session, State};
use crate::lock::lock;
use crate::per_core::PerCore;
use crate::trace::{self, Step};
use crate::wire::Request;

/// Connections that are made for one request each, beside the others.
const APART: usize = 8;
/// And for health checks, which wait behind nothing else.
const CHECKS: usize = 2;

/// What a link bounds.
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// How many sessions to keep: one for each core that asks.
    pub sessions: usize,
    /// Connections to a peer that has no sessions.
    pub plain_connections: usize,
    /// Requests in flight on one session, if the peer allows as many.
    pub max_in_flight: usize,
    /// Requests that may wait for a place, per session and for plain connections.
    pub max_waiting: usize,
    /// How long a request may wait for a place.
    pub max_wait: Duration,
    /// The longest reply in bytes.
    pub max_reply: usize,
    /// A connection must be made within this time.
    pub connect_deadline: Duration,
    /// The offer of a session must be answered within this time.
    pub hello_deadline: Duration,
    /// How long this node itself waits for a reply. A peer that says nothing for nearly as long while requests wait has gone;
    /// that an asker with less patience gave up proves nothing.
    pub patience: Duration,
    /// How long a peer is taken to have no sessions before it is offered one again.
    pub offer_again: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            sessions: 1,
            plain_connections: 256,
            max_in_flight: 1024,
            max_waiting: 16 * 1024,
            max_wait: Duration::from_secs(10),
            max_reply: (1 << 20) + 4096,
            connect_deadline: Duration::from_secs(1),
            hello_deadline: Duration::from_millis(500),
            patience: Duration::from_secs(2),
            offer_again: Duration::from_secs(10),
        }
    }
}

/// The reply to a request that is on its way. Who drops it does not want it any more.
pub struct Awaited {
    answer: oneshot::Receiver<Result<Bytes, LinkError>>,
    /// Boxed: few requests are traced, and all of them are made of this.
    step: Option<Box<Step>>,
}

impl Future for Awaited {
    type Output = Result<Bytes, LinkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let told = ready!(Pin::new(&mut self.answer).poll(cx)).unwrap_or(Err(LinkError::Broken));
        if let Some(step) = &mut self.step {
            step.ended(told.as_ref().err().map(|error| error as _));
        }
        Poll::Ready(told)
    }
}

/// A way to ask one peer.
pub struct Link {
    peer: Peer,
    limits: LinkLimits,
    slots: PerCore<Mutex<Slot>>,
    plain: Room,
    /// Room for requests that want a connection of their own.
    apart: Room,
    checks: Room,
}

/// What is known of the peer, per core.
enum Slot {
    /// Nobody asked yet.
    Unused,
    /// A session, or the offer of one.
    Session(Arc<Session>),
    /// It has none. The offer of another, when the time for that has come.
    Plain { until: Instant, offer: Option<Arc<Session>> },
}

enum Route {
    Session(Arc<Session>),
    Plain,
}

impl Link {
    /// A link to a peer; nothing is connected before the first request.
    pub fn new(peer: Peer, limits: LinkLimits) -> Self {
        let slots = PerCore::new(limits.sessions, || Mutex::new(Slot::Unused));
        Self {
            peer,
            limits,
            slots,
            plain: Room::new(limits.plain_connections),
            apart: Room::new(APART),
            checks: Room::new(CHECKS),
        }
    }

    /// Whom it asks.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Asks, and gives the line of the reply without its end. What the line says is not looked at.
    ///
    /// A request whose session is lost is asked once more, on a new one: all that links carry may be asked twice.
    pub async fn ask(&self, request: Request<'_>, deadline: Instant) -> Result<Bytes, LinkError> {
        match self.ask_once(request, false, deadline, Instant::now()).await {
            Err(LinkError::Broken) => {
                let now = Instant::now();
                if now < deadline {
                    self.ask_once(request, false, deadline, now).await
                } else {
                    Err(LinkError::Broken)
                }
            }
            result => result,
        }
    }

    /// The same, but a request whose session is lost is `Broken`: for those who ask somebody else then.
    pub async fn ask_once(
        &self,
        request: Request<'_>,
        tell_times: bool,
        deadline: Instant,
        now: Instant,
    ) -> Result<Bytes, LinkError> {
        let mut step = trace::ask(&self.peer.host, self.peer.port);
        let result = loop {
            let session = match self.route() {
                Route::Session(session) => session,
                Route::Plain => {
                    // Boxed, so that who asks over a session does not carry the room for it.
                    break Box::pin(plain::ask(&self.peer, &self.limits, &self.plain, request, deadline))
                        .await;
                }
            };
            match session.ask(&Order { request, tell_times, step: step.as_ref() }, deadline, now).await {
                Err(LinkError::Broken) if session.state() == State::Plain => self.fall_back(&session),
                result => break result,
            }
        };
        if let Some(step) = &mut step {
            step.ended(result.as_ref().err().map(|error| error as _));
        }
        result
    }

    /// Puts a request on the session that is open, at once; `None` when there is none, or no place on it: see
    /// [`Link::ask_once`].
    pub fn call(
        &self,
        request: Request<'_>,
        tell_times: bool,
        deadline: Instant,
        now: Instant,
    ) -> Option<Awaited> {
        match &*self.slot() {
            Slot::Session(session) => session.call(request, tell_times, deadline, now),
            Slot::Unused | Slot::Plain { .. } => None,
        }
    }

    /// Asks on a connection made for this one request, whatever the sessions carry.
    pub async fn ask_apart(&self, request: Request<'_>, deadline: Instant) -> Result<Bytes, LinkError> {
        plain::ask(&self.peer, &self.limits, &self.apart, request, deadline).await
    }

    /// The same for a health check: it learns whether a new asker would be answered.
    pub async fn check(&self, request: Request<'_>, deadline: Instant) -> Result<Bytes, LinkError> {
        plain::ask(&self.peer, &self.limits, &self.checks, request, deadline).await
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // The state is replaced in one step, so a panic elsewhere has not left it half changed.
        lock(self.slots.here())
    }

    fn route(&self) -> Route {
        let mut slot = self.slot();
        let dial = || opening::dial(self.peer.clone(), self.limits);
        match &mut *slot {
            Slot::Session(session) if session.state() != State::Over => {
                return Route::Session(session.clone());
            }
            Slot::Unused | Slot::Session(_) => {
                let session = dial();
                *slot = Slot::Session(session.clone());
                return Route::Session(session);
            }
            Slot::Plain { until, offer } => match offer.as_ref().map(|offer| offer.state()) {
                None if Instant::now() >= *until => *offer = Some(dial()),
                Some(State::Open) => {
                    if let Some(session) = offer.take() {
                        *slot = Slot::Session(session.clone());
                        return Route::Session(session);
                    }
                }
                Some(State::Plain | State::Over) => {
                    (*until, *offer) = (Instant::now() + self.limits.offer_again, None);
                }
                None | Some(State::Offering) => {}
            },
        }
        Route::Plain
    }

    /// The offer of this session was turned down: for a while the peer is asked plainly.
    fn fall_back(&self, refused: &Arc<Session>) {
        let mut slot = self.slot();
        if matches!(&*slot, Slot::Session(session) if Arc::ptr_eq(session, refused)) {
            *slot = Slot::Plain { until: Instant::now() + self.limits.offer_again, offer: None };
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for slot in self.slots.iter() {
            match &*lock(slot) {
                Slot::Session(session) | Slot::Plain { offer: Some(session), .. } => session.end(),
                Slot::Unused | Slot::Plain { offer: None, .. } => {}
            }
        }
    }
}
