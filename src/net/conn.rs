//! One connection of a client, from its first line to its end.
//!
//! ```text
//!   Plain ──request──────────────────────────────────────────▶ Ending: replies are written ──▶ closing
//!     └──HELLO 2──▶ Session ──end of stream, bad line, stop──▶ Ending
//! ```
//! | the connection waits for | in phase | deadline |
//! |---|---|---|
//! | the client to read replies | all | `write_deadline`, again after each [`PROGRESS`] bytes |
//! | the first line | Plain | `line_deadline`; after a stop [`LAST_CALL`], if that is earlier |
//! | the rest of a line | Session | `line_deadline` |
//! | a request, with none in flight | Session | `idle_deadline` |
//! | upstreams | Session, Ending | none here: every request has its own |
//!
//! One task does all of it in turns: it collects the replies that are ready, reads and answers requests, and writes all
//! replies at once. A turn is short: whoever sends without an end must not hold up the other connections of the core.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::task::{unconstrained, yield_now};
use tokio::time::{Instant, Sleep, sleep_until};

use super::accept::{Admitted, RESERVE_DEADLINE};
use super::closing;
use super::exchange::{Exchange, Phase};
use super::inbox::{Filled, Inbox};
use super::lines::LineError;
use super::shared::Shared;
use super::transport::{Stream, cork, has_unsent};
use super::unread::{Backlog, Unread};
use crate::handler::Handler;
use crate::wire::request::MAX_LINE;

/// The write deadline starts again after this many bytes.
const PROGRESS: usize = 64 * 1024;
/// The bytes of records that TLS holds at the most (the buffer limit of rustls): how many it holds, it does not say.
const RECORDS: usize = 64 * 1024;
/// After this time others have their turn, and the runtime looks for new bytes of all.
const TURN: Duration = Duration::from_millis(1);
/// The time for a first line after a stop.
const LAST_CALL: Duration = Duration::from_millis(500);

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// All replies are written, and no further input is known of.
    Clean,
    /// All replies are written, but the client may still be sending.
    UnreadInput,
    /// Broken, or past a deadline.
    Cut,
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(mut stream: Stream, from: IpAddr, shared: &Shared<H>, at: &Admitted) {
    let (end, is_leaving) = {
        let stop = shared.ending.cancelled();
        tokio::pin!(stop);
        let mut conn = Conn::new(&mut stream, from, shared, at);
        let end = std::future::poll_fn(|cx| {
            let end = conn.poll(cx)?;
            // Only a connection that waits looks at the stop.
            if end.is_pending() && !conn.stopping && stop.as_mut().poll(cx).is_ready() {
                conn.stop();
                return conn.poll(cx);
            }
            end.map(Ok)
        })
        .await;
        (end.unwrap_or(End::Cut), conn.is_leaving)
    };
    let closed = async {
        match end {
            End::Clean => closing::close(&mut stream).await,
            End::UnreadInput => closing::linger(&mut stream).await,
            End::Cut => {}
        }
    };
    tokio::select! {
        biased;
        () = closed => {}
        () = async { at.place().given_away(Instant::now()).await }, if !is_leaving => {}
    }
}

struct Conn<'a, H> {
    stream: &'a mut Stream,
    inbox: Inbox,
    exchange: Exchange<'a, H>,
    /// The start of the wait for a line: the first one, the rest of one, or the next one of an idle session.
    waiting_since: Instant,
    /// The start of the wait for the client to read.
    writing_since: Instant,
    /// Bytes written since then.
    written: usize,
    /// The client's last read, as the socket shows it: the last time that it took bytes, or the begin of the reply.
    read_at: Instant,
    backlog: Backlog<&'a Unread>,
    timer: Pin<Box<Sleep>>,
    /// Only a part of a line has arrived.
    mid_line: bool,
    /// The server stops: requests that have arrived are answered, later ones are not.
    stopping: bool,
    /// The place was given away as a request came: the connection ends once its replies are written.
    is_leaving: bool,
    /// The place was given away, and this is the last turn in which a request may come.
    has_looked_again: bool,
    /// The deadline of the first line once the server stops.
    last_call: Instant,
}

impl<'a, H: Handler> Conn<'a, H> {
    fn new(stream: &'a mut Stream, from: IpAddr, shared: &'a Shared<H>, at: &'a Admitted) -> Self {
        let now = Instant::now();
        Self {
            stream,
            inbox: Inbox::new(MAX_LINE),
            exchange: Exchange::new(from, shared, at, now),
            waiting_since: now,
            writing_since: now,
            written: 0,
            read_at: now,
            backlog: shared.limits.unread.backlog(),
            timer: Box::pin(sleep_until(now + shared.limits.line_deadline)),
            mid_line: false,
            stopping: false,
            is_leaving: false,
            has_looked_again: false,
            last_call: now,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        let (mut began, mut has_moved) = (None, false);
        loop {
            self.exchange.now = Instant::now();
            let began = *began.get_or_insert(self.exchange.now);
            if has_moved && self.exchange.now - began >= TURN {
                return pin!(yield_now()).poll(cx).map(|()| Ok(End::Cut));
            }
            if self.is_taken() {
                // The write deadline of a reply starts with the reply.
                self.writing_since = self.exchange.now;
                self.read_at = self.exchange.now;
            }
            self.exchange.more_wait = self.inbox.has_line();
            let mut progress = self.exchange.poll_pending(cx);
            progress |= self.poll_read(cx)?;
            progress |= self.poll_write(cx)?;
            if self.exchange.is_written() {
                let unread_input = self.exchange.unread_input || self.inbox.has_more();
                return Poll::Ready(Ok(if unread_input { End::UnreadInput } else { End::Clean }));
            }
            if progress {
                has_moved = true;
                self.has_looked_again = false;
                continue;
            }
            let idle_since = self.idle_since();
            if !self.is_leaving && !self.exchange.at.place().waits(cx, idle_since) {
                if idle_since.is_some() && !has_moved {
                    if self.has_looked_again {
                        return Poll::Ready(Ok(End::Cut));
                    }
                    // A request may have come that the runtime has not seen yet: it looks before the next turn.
                    self.has_looked_again = true;
                    return pin!(yield_now()).poll(cx).map(|()| Ok(End::Cut));
                }
                self.is_leaving = true;
                self.stop();
            }
            // The kernel accepted the connection of a client whose first line is on its way: it gets until the last call.
            if !self.stopping || self.exchange.phase != Phase::Session || self.inbox.has_line() {
                return self.poll_deadline(cx);
            }
            // Everything that has arrived is read; on a session, more may be on its way.
            self.exchange.unread_input = true;
            self.exchange.phase = Phase::Ending;
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.last_call = Instant::now() + LAST_CALL;
    }

    /// Reads and answers while there is room. True when something was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.exchange.update_window();
        if !self.exchange.has_room() {
            return Ok(false);
        }
        let (before, taken) = (self.exchange.phase, self.exchange.taken);
        let exchange = &mut self.exchange;
        let Poll::Ready(filled) = self.inbox.poll_lines(cx, self.stream, &mut |line| exchange.take(line))?
        else {
            return Ok(false);
        };
        if before == Phase::Plain && self.exchange.phase == Phase::Session {
            self.stream.set_nodelay(true)?;
        }
        match filled {
            Filled::Bytes => {}
            Filled::End => self.exchange.phase = Phase::Ending,
            Filled::Tls => self.exchange.refuse_tls(),
            Filled::Bad(LineError::TooLong) => self.exchange.refuse("the line is longer than 8 KiB"),
            Filled::Bad(LineError::NotText) => self.exchange.refuse("the line is not UTF-8"),
            Filled::Bad(LineError::CutShort) => self.exchange.refuse("the stream ended before the line did"),
            Filled::Bad(LineError::Stream(error)) => return Err(error),
        }
        // The deadline of a line starts with its first byte: further bytes do not move it.
        let mid_line = self.inbox.has_part();
        if self.exchange.taken > taken || (mid_line && !self.mid_line && before == Phase::Session) {
            self.waiting_since = self.exchange.now;
        }
        self.mid_line = mid_line;
        Ok(true)
    }

    /// Writes what is ready. True when something was written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.exchange.outbox.is_empty() {
            return self.poll_flush(cx);
        }
        if self.exchange.is_answered() {
            cork(self.stream);
        }
        let Poll::Ready(written) = self.exchange.outbox.poll_write(cx, self.stream)? else {
            let bytes = self.exchange.outbox.settle() + if has_unsent(self.stream) { RECORDS } else { 0 };
            self.backlog.set(cx, bytes, self.read_at, self.exchange.now)?;
            return Ok(false);
        };
        if self.exchange.outbox.is_empty() {
            self.backlog.clear();
        }
        self.read_at = self.exchange.now;
        self.written += written;
        if self.written >= PROGRESS || self.exchange.outbox.is_empty() {
            self.written = 0;
            self.writing_since = self.exchange.now;
        }
        if !self.mid_line {
            self.waiting_since = self.exchange.now;
        }
        Ok(true)
    }

    /// Sends records of TLS that the socket has not taken. True when the last of them was sent.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if !has_unsent(self.stream) {
            return Ok(false);
        }
        let Poll::Ready(()) = Pin::new(&mut *self.stream).poll_flush(cx)? else {
            self.backlog.set(cx, RECORDS, self.read_at, self.exchange.now)?;
            return Ok(false);
        };
        self.backlog.clear();
        self.read_at = self.exchange.now;
        Ok(true)
    }

    /// Whether the socket has taken all replies.
    fn is_taken(&self) -> bool {
        self.exchange.outbox.is_empty() && !has_unsent(self.stream)
    }

    /// Ends the connection at its deadline. The timer is moved only when it fires: a busy connection never touches it.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        loop {
            let deadline = self.deadline();
            let early = deadline.is_some_and(|deadline| deadline < self.timer.deadline());
            if early && let Some(deadline) = deadline {
                self.timer.as_mut().reset(deadline);
            }
            // Unconstrained: the timer must fire even when reads have used up tokio's budget of this turn.
            ready!(pin!(unconstrained(self.timer.as_mut())).poll(cx));
            self.exchange.now = Instant::now();
            match deadline {
                Some(deadline) if deadline <= self.exchange.now => return self.poll_overdue(cx),
                Some(deadline) => self.timer.as_mut().reset(deadline),
                // Only upstreams are waited for: check again later.
                None => {
                    self.timer.as_mut().reset(self.exchange.now + self.exchange.shared.limits.idle_deadline);
                }
            }
        }
    }

    /// Since when the client does nothing; `None` while it waits for us.
    fn idle_since(&self) -> Option<Instant> {
        match (self.is_taken(), self.exchange.is_idle()) {
            (false, _) => Some(self.read_at),
            (true, true) => Some(self.waiting_since),
            (true, false) => None,
        }
    }

    /// The deadline of the table at the top.
    fn deadline(&self) -> Option<Instant> {
        let limits = &self.exchange.shared.limits;
        if !self.is_taken() {
            return Some(self.writing_since + limits.write_deadline);
        }
        let line = self.waiting_since + limits.line_deadline;
        match self.exchange.phase {
            Phase::Plain if self.exchange.at.is_in_reserve() => {
                Some(self.waiting_since + limits.line_deadline.min(RESERVE_DEADLINE))
            }
            Phase::Plain if self.stopping => Some(self.last_call.min(line)),
            Phase::Plain => Some(line),
            Phase::Session if self.mid_line => Some(line),
            Phase::Session if self.exchange.is_idle() => Some(self.waiting_since + limits.idle_deadline),
            Phase::Session | Phase::Ending => None,
        }
    }

    /// A client that sent a part of a line gets an error; one that sent nothing, or does not read, gets none.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        if self.exchange.phase == Phase::Plain && self.exchange.at.is_in_reserve() {
            self.mid_line = false;
            self.exchange.turn_away();
            return self.poll(cx);
        }
        if !self.mid_line || !self.is_taken() {
            return Poll::Ready(Ok(End::Cut));
        }
        self.mid_line = false;
        self.exchange.refuse("the line did not come whole within its deadline");
        self.poll(cx)
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
