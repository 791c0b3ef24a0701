//! The requests and replies of a connection: the meaning of its lines, while `conn` moves bytes.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::accept::Admitted;
use super::foreign;
use super::in_flight::Share;
use super::inbox::Take;
use super::outbox::Outbox;
use super::shared::Shared;
use super::unread::{LITTLE, TOO_MUCH};
use crate::handler::{Answer, Ask, Handler};
use crate::trace;
use crate::wire::reply::Frame;
use crate::wire::request::{RequestError, split_id};
use crate::wire::{Options, Reply, Request, Status};

/// No request is read while this many bytes of replies wait to be written.
const FULL: usize = 256 * 1024;
/// Replies turn into OVERLOADED while this many bytes wait to be written: the most that one client can make us hold.
const FLOODED: usize = 16 * 1024 * 1024;

/// Lines between two looks at the time: with requests that are answered at once about a millisecond.
const A_TURN: u64 = 1024;

/// The text of the OVERLOADED on a connection of the reserve.
const NO_PLACE: &str = "this node has as many connections as --max-connections allows; try again later";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Before the first line.
    Plain,
    /// After `HELLO 2`.
    Session,
    /// No further requests are read; those in flight are answered.
    Ending,
}

/// The `data` of the reply to `HELLO 2`.
#[derive(serde::Serialize)]
struct Hello {
    protocol: u32,
    max_in_flight: usize,
}

/// A request in flight.
struct Pending {
    /// Its id in the session.
    id: Option<u64>,
    tell_times: bool,
    reply: Pin<Box<dyn Future<Output = Reply> + Send>>,
}

impl Future for Pending {
    type Output = (Option<u64>, bool, Reply);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(self.reply.as_mut().poll(cx));
        Poll::Ready((self.id, self.tell_times, reply))
    }
}

/// The state of a connection that its lines can change.
pub(super) struct Exchange<'a, H> {
    pub(super) phase: Phase,
    from: IpAddr,
    pub(super) at: &'a Admitted,
    pub(super) shared: &'a Shared<H>,
    pub(super) outbox: Outbox,
    pending: FuturesUnordered<Pending>,
    /// The share of this connection in the requests in flight at the server.
    share: Share<'a>,
    /// The limit of requests in flight.
    window: usize,
    /// In bytes, about the largest of the last replies that were not ready at once; it shrinks by an eighth per reply.
    largest: Option<usize>,
    /// Whether requests have arrived that are not read yet.
    pub(super) more_wait: bool,
    /// Whether the client may be sending bytes that will not be read.
    pub(super) unread_input: bool,
    /// Lines so far.
    pub(super) taken: u64,
    /// The last line took long to answer.
    was_long: bool,
    pub(super) now: Instant,
}

impl<'a, H: Handler> Exchange<'a, H> {
    /// Before the first line.
    pub(super) fn new(from: IpAddr, shared: &'a Shared<H>, at: &'a Admitted, now: Instant) -> Self {
        Self {
            phase: Phase::Plain,
            from,
            at,
            shared,
            outbox: Outbox::default(),
            pending: FuturesUnordered::new(),
            share: shared.in_flight.share(),
            window: 1,
            largest: None,
            more_wait: false,
            unread_input: false,
            taken: 0,
            was_long: false,
            now,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.phase != Phase::Ending && self.outbox.len() < FULL && self.pending.len() < self.window
    }

    /// Recomputes the window: the promised maximum, lowered when replies are large, when too many replies are unread in the
    /// whole process, or when the upstreams are busy.
    pub(super) fn update_window(&mut self) {
        // Before the first reply its size is unknown: sixteen at once are assumed to be the most.
        let size = self.largest.unwrap_or(FLOODED / 16).max(1);
        let (is_large, is_read) = (size >= LITTLE, self.outbox.is_empty());
        let fair = self.share.limit(self.pending.len(), if is_large { size } else { 0 }, self.outbox.len());
        self.window = match self.shared.limits.unread.is_short_of_room() {
            true => usize::from(is_read),
            // A client over its share that does not read gets no further large reply: it would stand in the way of the
            // replies to clients that do.
            false => {
                let most = self.shared.limits.max_in_flight;
                (FLOODED / size).min(fair).min(most).max(usize::from(is_read || !is_large))
            }
        };
    }

    /// Whether no request is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the outbox has the last reply.
    pub(super) fn is_answered(&self) -> bool {
        self.phase == Phase::Ending && self.pending.is_empty()
    }

    /// Whether the last reply is written.
    pub(super) fn is_written(&self) -> bool {
        self.is_answered() && self.outbox.is_empty()
    }

    /// Handles one line.
    pub(super) fn take(&mut self, line: &str) -> Take {
        self.taken += 1;
        self.was_long = false;
        match self.phase {
            Phase::Plain => self.take_plain(line),
            Phase::Session => self.take_in_session(line),
            Phase::Ending => {}
        }
        let has_had_its_turn = self.was_long || self.taken.is_multiple_of(A_TURN);
        if self.has_room() && !has_had_its_turn { Take::More } else { Take::Pause }
    }

    fn take_plain(&mut self, line: &str) {
        self.phase = Phase::Ending;
        match Request::parse(line) {
            Ok(request) if request != Request::Metrics && !self.at.has_place() => self.turn_away(),
            Ok(Request::Hello) => {
                self.phase = Phase::Session;
                let max_in_flight = self.shared.limits.max_in_flight;
                self.frame_own(None, &Reply::json(&Hello { protocol: 2, max_in_flight }));
            }
            Ok(request) => self.answer(None, request, Options::default()),
            Err(error) => {
                self.unread_input = true;
                let refusal = self.shared.refusal(error);
                let http =
                    self.shared.handler.http_port().and_then(|port| foreign::http_response(line, port));
                match http {
                    Some(response) => self.outbox.small(response.as_bytes()),
                    None => self.frame_own(None, &refusal),
                }
            }
        }
    }

    /// Ends a connection that has no place.
    pub(super) fn turn_away(&mut self) {
        self.phase = Phase::Ending;
        self.unread_input = true;
        self.frame_own(None, &self.shared.handler.error(Status::Overloaded, NO_PLACE.to_owned()));
    }

    fn take_in_session(&mut self, line: &str) {
        let Some((id, request)) = split_id(line.as_bytes()) else {
            return self.refuse("a line of a session begins with an id and a space");
        };
        let line = &line[line.len() - request.len()..];
        match Request::parse_with_options(line) {
            Ok((Request::Hello, _)) => {
                self.frame_own(
                    Some(id),
                    &self.shared.refusal(RequestError::Usage("this is a session already")),
                );
            }
            Ok((request, options)) => self.answer(Some(id), request, options),
            Err(error) => self.frame_own(Some(id), &self.shared.refusal(error)),
        }
    }

    fn answer(&mut self, id: Option<u64>, request: Request<'_>, options: Options<'_>) {
        self.was_long = matches!(request, Request::Metrics | Request::MetricsOf(_));
        let ask = Ask {
            request,
            from: self.from,
            now: self.now,
            deadline: options.deadline.map(|left| self.now + left),
            tell: options.tell,
            trace: options.trace,
            parent: options.parent,
        };
        match trace::answer(&self.shared.handler, ask, self.shared.limits.slow_log) {
            Answer::Now(reply) => self.frame(id, options.tell.times, &reply),
            Answer::Later(reply) => {
                self.pending.push(Pending { id, tell_times: options.tell.times, reply });
            }
        }
    }

    /// Frames the replies that have become ready. True if there were any.
    pub(super) fn poll_pending(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while let Poll::Ready(Some((id, tell_times, reply))) = self.pending.poll_next_unpin(cx) {
            let size = reply.size();
            self.largest = Some(self.largest.map_or(size, |largest| size.max(largest - largest / 8)));
            self.frame(id, tell_times, &reply);
            progress = true;
        }
        progress
    }

    /// Frames a reply, if there is room for it.
    fn frame(&mut self, id: Option<u64>, tell_times: bool, reply: &Reply) {
        let waiting = self.outbox.len();
        let unread = &self.shared.limits.unread;
        let is_only = waiting == 0 && self.pending.is_empty() && !self.more_wait;
        if waiting < FLOODED && !unread.has_no_room_for(waiting + reply.size(), is_only, self.now) {
            return reply.frame(id, tell_times, &mut self.outbox);
        }
        self.frame_own(id, &self.shared.handler.error(Status::Overloaded, TOO_MUCH.to_owned()));
    }

    /// Frames a reply of this node, which is small: there is always room for it.
    fn frame_own(&mut self, id: Option<u64>, reply: &Reply) {
        reply.frame(id, false, &mut self.outbox);
    }

    /// Ends the connection with a BAD_REQUEST without an id. Requests in flight are still answered.
    pub(super) fn refuse(&mut self, why: &'static str) {
        self.phase = Phase::Ending;
        self.unread_input = true;
        self.frame_own(None, &self.shared.refusal(RequestError::Usage(why)));
    }

    /// Ends the connection of a client that speaks TLS.
    pub(super) fn refuse_tls(&mut self) {
        foreign::log_tls(self.from);
        self.refuse(foreign::NO_TLS);
    }
}
