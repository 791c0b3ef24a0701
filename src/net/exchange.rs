//! The requests and replies of a connection: what its lines mean, with the bytes left to `conn`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::crowd::Share;
use super::inbox::Take;
use super::outbox::Outbox;
use super::shared::Shared;
use super::unread::TOO_MUCH;
use crate::handler::{Answer, Ask, Handler};
use crate::trace;
use crate::wire::request::{RequestError, split_id};
use crate::wire::{Options, Reply, Request, Status};

/// No further request is read while this many bytes wait to leave.
const FULL: usize = 256 * 1024;
/// Replies turn into OVERLOADED while this many bytes wait to leave: an asker that does not read cannot hold more.
const FLOODED: usize = 16 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Nothing was asked yet.
    Plain,
    /// `HELLO 2` was.
    Session,
    /// Nothing more is read: what is asked is answered, then we close.
    Ending,
}

/// The `data` of the reply to `HELLO 2`.
#[derive(serde::Serialize)]
struct Hello {
    protocol: u32,
    max_in_flight: usize,
}

/// A request that is not answered yet, and its id in the session.
struct Pending {
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

/// The requests and replies of a connection: all that its lines can change.
pub(super) struct Exchange<'a, H> {
    pub(super) phase: Phase,
    from: IpAddr,
    pub(super) shared: &'a Shared<H>,
    pub(super) outbox: Outbox,
    pending: FuturesUnordered<Pending>,
    /// What is under way here among all that is under way at this node.
    share: Share<'a>,
    /// How many requests may be under way, as of the last look.
    window: usize,
    /// About the largest of the last replies that were not answered at once: a measure of how many may be under way.
    largest: Option<usize>,
    /// Whether the peer may still be sending what will not be read.
    pub(super) unread: bool,
    /// How many lines were taken.
    pub(super) taken: u64,
    pub(super) now: Instant,
}

impl<'a, H: Handler> Exchange<'a, H> {
    /// Nothing was asked yet.
    pub(super) fn new(from: IpAddr, shared: &'a Shared<H>, now: Instant) -> Self {
        Self {
            phase: Phase::Plain,
            from,
            shared,
            outbox: Outbox::default(),
            pending: FuturesUnordered::new(),
            share: shared.crowd.share(),
            window: 1,
            largest: None,
            unread: false,
            taken: 0,
            now,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.phase != Phase::Ending && self.outbox.len() < FULL && self.pending.len() < self.window
    }

    /// Looks how many requests may be under way: as many as the session was promised, fewer when their replies are large, too
    /// many are not read, or the node has enough to do.
    pub(super) fn look_around(&mut self) {
        // Until one was seen, replies may be as large as replies get.
        let room = if self.shared.limits.unread.is_short_of_room() { 0 } else { FLOODED };
        let fitting = room / self.largest.unwrap_or(FLOODED / 16).max(1);
        let fair = self.share.is_now(self.pending.len());
        self.window = fitting.min(fair).clamp(1, self.shared.limits.max_in_flight);
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether nothing more will be said.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Ending && self.pending.is_empty()
    }

    /// Whether all is said, and has left.
    pub(super) fn is_done(&self) -> bool {
        self.is_over() && self.outbox.is_empty()
    }

    /// Takes one line.
    pub(super) fn take(&mut self, line: &str) -> Take {
        self.taken += 1;
        let line = line.as_bytes();
        match self.phase {
            Phase::Plain => self.take_plain(line),
            Phase::Session => self.take_in_session(line),
            Phase::Ending => {}
        }
        if self.has_room() { Take::More } else { Take::Pause }
    }

    fn take_plain(&mut self, line: &[u8]) {
        self.phase = Phase::Ending;
        match Request::parse(line) {
            Ok(Request::Hello) => {
                self.phase = Phase::Session;
                let max_in_flight = self.shared.limits.max_in_flight;
                self.say(None, &Reply::json(&Hello { protocol: 2, max_in_flight }));
            }
            Ok(request) => self.answer(None, request, Options::default()),
            Err(error) => {
                self.unread = true;
                self.say(None, &self.shared.refusal(error));
            }
        }
    }

    fn take_in_session(&mut self, line: &[u8]) {
        let Some((id, line)) = split_id(line) else {
            return self.refuse("a line of a session begins with an id and a space");
        };
        match Request::parse_with_options(line) {
            Ok((Request::Hello, _)) => {
                self.say(Some(id), &self.shared.refusal(RequestError::Usage("this is a session already")));
            }
            Ok((request, options)) => self.answer(Some(id), request, options),
            Err(error) => self.say(Some(id), &self.shared.refusal(error)),
        }
    }

    fn answer(&mut self, id: Option<u64>, request: Request<'_>, options: Options<'_>) {
        let ask = Ask {
            request,
            from: self.from,
            now: self.now,
            deadline: options.deadline.map(|left| self.now + left),
            tell_times: options.tell_times,
            trace: options.trace,
            parent: options.parent,
        };
        match trace::answer(&self.shared.handler, ask, self.shared.limits.slow_log) {
            Answer::Now(reply) => self.frame(id, options.tell_times, &reply),
            Answer::Later(reply) => {
                self.pending.push(Pending { id, tell_times: options.tell_times, reply });
            }
        }
    }

    /// Frames what has become ready. True when something had.
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
        if waiting < FLOODED && !unread.has_no_room_for(waiting + reply.size(), self.now) {
            return reply.frame(id, tell_times, &mut self.outbox);
        }
        self.say(id, &self.shared.handler.error(Status::Overloaded, TOO_MUCH.to_owned()));
    }

    fn say(&mut self, id: Option<u64>, reply: &Reply) {
        reply.frame(id, false, &mut self.outbox);
    }

    /// Ends the connection with a BAD_REQUEST that has no id, behind what is still being answered.
    pub(super) fn refuse(&mut self, why: &'static str) {
        self.phase = Phase::Ending;
        self.unread = true;
        self.say(None, &self.shared.refusal(RequestError::Usage(why)));
    }
}
