//! The link from a node to one peer (an upstream, or a node to watch): sessions if the peer has them, else a connection
//! for each request.
//!
//! ```text
//!   offering ──OK──▶ session ──lost, or the peer's name has lost its address──▶ offering
//!       └──any other answer, a close──▶ plain ──offered again after `offer_again`──▶ session | plain
//! ```
//! One session per core, so that a caller and the session's task run on the same thread. All is bounded: connections,
//! requests in flight, requests that wait, and the time of each.

mod addresses;
mod calls;
mod error;
mod follow;
mod opening;
mod pace;
mod peer;
mod plain;
mod reading;
mod session;
mod session_io;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use self::addresses::Addresses;
#[cfg(feature = "tools")]
pub(crate) use self::calls::{Calls, Removed};
pub use self::error::LinkError;
#[cfg(feature = "tools")]
pub(crate) use self::opening::hello;
#[cfg(feature = "tools")]
pub(crate) use self::pace::Pace;
pub use self::peer::{Peer, PeerError};
use self::plain::Connections;
#[cfg(feature = "tools")]
pub(crate) use self::plain::ask_on;
use self::session::{Outgoing, Session, Stage};
use crate::lock::lock;
use crate::net::tls::PeerTls;
use crate::per_core::PerCore;
use crate::trace::{self, Step};
use crate::wire::{MAX_DOCUMENT, Request, Tell};

/// Connections at once for [`Link::ask_apart`]: a purge may take a proxy a tenth of a second, and a deploy may send a thousand.
const APART: usize = 64;
/// Connections at once for [`Link::check`].
const CHECKS: usize = 2;

/// The most that a reply holds beside its document, in bytes.
const AROUND: usize = 4096;

/// The bounds of a link.
#[derive(Clone, Debug)]
pub struct LinkLimits {
    /// Sessions: one for each core that sends requests.
    pub sessions: usize,
    /// Connections at once to a peer that has no sessions.
    pub plain_connections: usize,
    /// Requests in flight on one session; the peer may allow fewer.
    pub max_in_flight: usize,
    /// Requests that wait until they may be sent: on each session, and for plain connections.
    pub max_waiting: usize,
    /// The longest such wait; then the request fails with [`LinkError::Busy`].
    pub max_wait: Duration,
    /// The longest reply, in bytes.
    pub max_reply: usize,
    /// A connection must be made within this time, or within three quarters of `patience` if that is shorter. Both are best
    /// longer than the second after which the kernel repeats a lost SYN (RFC 6298, section 2).
    pub connect_deadline: Duration,
    /// How often the peer's name is looked up again.
    pub resolve_interval: Duration,
    /// The offer of a session must be answered within this time.
    pub hello_deadline: Duration,
    /// How long this node itself waits for a reply. A session is closed when requests are in flight and no reply at all came
    /// for nine tenths of this time. Clients with shorter deadlines do not shorten it.
    pub patience: Duration,
    /// How long to send plain requests to a peer without sessions before it is offered one again.
    pub offer_again: Duration,
    /// TLS with the peer; `None` for plain text.
    pub tls: Option<PeerTls>,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            sessions: 1,
            plain_connections: 256,
            max_in_flight: 1024,
            max_waiting: 16 * 1024,
            max_wait: Duration::from_secs(10),
            max_reply: MAX_DOCUMENT + AROUND,
            connect_deadline: Duration::from_secs(3),
            resolve_interval: Duration::from_secs(10),
            hello_deadline: Duration::from_millis(500),
            patience: Duration::from_secs(2),
            offer_again: Duration::from_secs(10),
            tls: None,
        }
    }
}

impl LinkLimits {
    /// The most requests in flight that a session is made for; more in `max_in_flight` are cut to this.
    pub const MOST_IN_FLIGHT: usize = 1 << 20;

    /// These limits, for replies that carry documents of at most `max_document` bytes.
    pub fn with_max_document(self, max_document: usize) -> Self {
        Self { max_reply: max_document + AROUND, ..self }
    }
}

/// The reply to a request in flight. Dropping it abandons the request.
pub struct Awaited {
    reply: oneshot::Receiver<Result<Bytes, LinkError>>,
    /// Boxed, because few requests are traced and this struct is part of the future of every request.
    step: Option<Box<Step>>,
}

impl Future for Awaited {
    type Output = Result<Bytes, LinkError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.reply).poll(cx)).unwrap_or(Err(LinkError::Broken));
        end_step(self.step.as_deref_mut(), &result);
        Poll::Ready(result)
    }
}

fn end_step(step: Option<&mut Step>, result: &Result<Bytes, LinkError>) {
    if let Some(step) = step {
        step.ended(result.as_ref().err().map(|error| error as _));
    }
}

/// Sends requests to one peer. Nothing is connected before the first.
pub struct Link {
    addresses: Arc<Addresses>,
    limits: LinkLimits,
    /// One for each core that sends requests.
    cores: PerCore<Mutex<Core>>,
    plain: Connections,
    apart: Connections,
    checks: Connections,
}

/// What one core knows of the peer.
#[derive(Default)]
struct Core {
    session: Option<Arc<Session>>,
    /// Set while the peer is taken to have no sessions. From this time on it is offered one again.
    offer_at: Option<Instant>,
}

impl Core {
    /// While the peer is taken to have no sessions, one that is offered is not used yet.
    fn session_in_use(&self) -> Option<&Arc<Session>> {
        self.session.as_ref().filter(|_| self.offer_at.is_none())
    }
}

impl Link {
    /// A link without connections.
    pub fn new(peer: Peer, limits: LinkLimits) -> Self {
        // A request that is not answered in time must not hide that no connection was made.
        let connect_deadline = limits.connect_deadline.min(limits.patience * 3 / 4);
        let limits = LinkLimits { connect_deadline, ..limits };
        let cores = PerCore::new(limits.sessions, Mutex::default);
        Self {
            addresses: Addresses::new(peer, limits.resolve_interval),
            plain: Connections::new(limits.plain_connections),
            limits,
            cores,
            apart: Connections::new(APART),
            checks: Connections::new(CHECKS),
        }
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        self.addresses.peer()
    }

    /// TLS with the other end; `None` for plain text.
    pub fn tls(&self) -> Option<&PeerTls> {
        self.limits.tls.as_ref()
    }

    /// Sends a request and returns the line of the reply, without its end and unparsed.
    ///
    /// If the session is lost, the request is sent once more on a new one. Links carry only requests for which twice is as
    /// good as once.
    pub async fn ask(&self, request: Request<'_>, deadline: Instant) -> Result<Bytes, LinkError> {
        self.ask_twice(request, Tell::default(), deadline).await
    }

    /// Like [`Link::ask`]; asks for what is told beside the document, too.
    pub async fn ask_twice(
        &self,
        request: Request<'_>,
        tell: Tell<'_>,
        deadline: Instant,
    ) -> Result<Bytes, LinkError> {
        match self.ask_once(request, tell, deadline, Instant::now()).await {
            Err(LinkError::Broken) if Instant::now() < deadline => {
                self.ask_once(request, tell, deadline, Instant::now()).await
            }
            result => result,
        }
    }

    /// Like [`Link::ask`], but a lost session is [`LinkError::Broken`] at once: the caller may try another peer.
    ///
    /// `tell` asks for more than the document; `now` is the current time, which the caller has.
    pub async fn ask_once(
        &self,
        request: Request<'_>,
        tell: Tell<'_>,
        deadline: Instant,
        now: Instant,
    ) -> Result<Bytes, LinkError> {
        let mut step = trace::ask(&self.peer().host, self.peer().port);
        let result = loop {
            let Some(session) = self.session() else {
                // Boxed, because a request on a session must not be larger by what a connection needs.
                let asked = plain::ask(&self.addresses, &self.limits, &self.plain, request, deadline);
                break Box::pin(asked).await;
            };
            let outgoing = Outgoing { request, tell, step: step.as_ref(), deadline, now };
            match session.ask(&outgoing).await {
                // The peer turned the session down: this time the request is sent plainly. Or the session takes no more
                // requests: the next one does.
                Err(LinkError::Broken) if matches!(session.stage(), Stage::Plain | Stage::Leaving) => {}
                // This node could not connect: a session that it has goes on.
                Err(LinkError::Exhausted) => match self.open_session() {
                    Some(open) => break Box::pin(open.ask(&outgoing)).await,
                    None => break Err(LinkError::Exhausted),
                },
                result => break result,
            }
        };
        end_step(step.as_mut(), &result);
        result
    }

    /// Like [`Link::ask_once`], but only if the request can be sent now: `None` without an open session, or when that has as
    /// many requests in flight as it may.
    pub fn call(
        &self,
        request: Request<'_>,
        tell: Tell<'_>,
        deadline: Instant,
        now: Instant,
    ) -> Option<Awaited> {
        self.core().session_in_use()?.call(request, tell, deadline, now)
    }

    /// Sends a request on a connection of its own, past all requests that wait for the sessions. Where this node has no port
    /// for one, an open session carries it.
    pub async fn ask_apart(&self, request: Request<'_>, deadline: Instant) -> Result<Bytes, LinkError> {
        match plain::ask(&self.addresses, &self.limits, &self.apart, request, deadline).await {
            Err(LinkError::Exhausted) => {
                let session = self.open_session().ok_or(LinkError::Exhausted)?;
                let now = Instant::now();
                session.ask(&Outgoing { request, tell: Tell::default(), step: None, deadline, now }).await
            }
            result => result,
        }
    }

    /// Like [`Link::ask_apart`], for health checks: they share connections with nothing else, and so learn whether the peer
    /// accepts and answers a new client.
    pub async fn check(&self, request: Request<'_>, deadline: Instant) -> Result<Bytes, LinkError> {
        plain::ask(&self.addresses, &self.limits, &self.checks, request, deadline).await
    }

    /// Like [`Link::check`], but on a session: one that is open, or else one that is offered now. `None` without a reply: the
    /// peer has no sessions, the session is busy or has ended, or what is in front of the request takes long. Then a check decides.
    pub async fn check_on_session(&self, request: Request<'_>, deadline: Instant) -> Option<Bytes> {
        let session = self.open_session().or_else(|| self.session())?;
        if !session.spares_a_place() {
            return None;
        }
        let now = Instant::now();
        let outgoing = Outgoing { request, tell: Tell::default(), step: None, deadline, now };
        session.ask(&outgoing).await.ok()
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // A panic of another holder cannot have left it half changed: nothing panics between two assignments.
        lock(self.cores.here())
    }

    /// The session for requests of this core, offered anew if need be; `None` while the peer is taken to have no sessions.
    fn session(&self) -> Option<Arc<Session>> {
        let core = &mut *self.core();
        let is_plain = core.offer_at.is_some();
        match core.session.as_ref().map(|session| session.stage()) {
            Some(Stage::Open) => core.offer_at = None,
            Some(Stage::Offering | Stage::Granted) => {}
            Some(Stage::Over | Stage::Leaving) if !is_plain => core.session = None,
            Some(Stage::Plain | Stage::Over | Stage::Leaving) => {
                *core = Core { session: None, offer_at: Some(Instant::now() + self.limits.offer_again) };
            }
            None => {}
        }
        if core.session.is_none() && core.offer_at.is_none_or(|at| Instant::now() >= at) {
            core.session = Some(opening::dial(self.addresses.clone(), self.limits.clone()));
        }
        core.session_in_use().cloned()
    }

    /// An open session of any core.
    fn open_session(&self) -> Option<Arc<Session>> {
        let is_open = |session: &Arc<Session>| session.stage() == Stage::Open;
        self.cores.iter().find_map(|core| lock(core).session.clone().filter(is_open))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for core in self.cores.iter_mut() {
            let core = core.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(session) = &core.session {
                session.close(Stage::Over, LinkError::Broken);
            }
        }
    }
}
