//! One connection of an asker, from its first line to its end.
//!
//! ```text
//!   plain ──line──▶ answering ──reply──▶ ending ──▶ closed
//!     └──HELLO 2──▶ session (many lines, replies as they are ready) ──end of stream, stop──▶ ending
//! ```
//! One task does all of it: it reads what has come, answers what can be answered at once, and writes all that is ready
//! in one go.

use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::exchange::{Exchange, Phase};
use super::inbox::{Filled, Inbox};
use super::lines::LineError;
use super::shared::Shared;
use super::transport::{Stream, cork};
use super::unread::Reader;
use crate::handler::Handler;
use crate::wire::Reply;
use crate::wire::request::MAX_LINE;

/// A write deadline starts anew whenever this many bytes have left.
const PROGRESS: usize = 64 * 1024;
/// After a stop, a connection on which nothing was asked yet has this time for its line.
const LAST_CALL: Duration = Duration::from_millis(500);
/// How long we go on reading, unheard, so that a reset does not overtake our last words.
const LINGER: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// All that was asked is answered, and nothing is known to have come behind it.
    Clean,
    /// Our last words left, but the peer may still be sending.
    Unread,
    /// Broken, or cut by a deadline.
    Cut,
}

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(mut stream: Stream, from: IpAddr, shared: &Shared<H>) {
    let end = {
        let stop = shared.ending.cancelled();
        tokio::pin!(stop);
        let mut conn = Conn::new(&mut stream, from, shared);
        std::future::poll_fn(|cx| {
            let end = conn.poll(cx)?;
            // Only when it has to wait does it listen for the stop.
            if end.is_pending() && !conn.stopping && stop.as_mut().poll(cx).is_ready() {
                conn.stop();
                return conn.poll(cx);
            }
            end.map(Ok)
        })
        .await
        .unwrap_or(End::Cut)
    };
    match end {
        End::Clean => close(&mut stream).await,
        End::Unread => linger(&mut stream).await,
        End::Cut => {}
    }
}

/// Says a last line on a connection that is not served.
pub(super) async fn turn_away(mut stream: Stream, reply: Reply) {
    let line = reply.to_line() + "\n";
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(line.as_bytes())).await {
        linger(&mut stream).await;
    }
}

/// Closes our half, and all of it if the peer sent nothing behind its request: what came meanwhile is not known to us, and
/// closing over it would take back what is kept of our reply.
async fn close(stream: &mut Stream) {
    // An error means that the connection is over already.
    let _ = stream.shutdown().await;
    if let Some(Ok(1..)) = stream.read(&mut [0]).now_or_never() {
        linger(stream).await;
    }
}

/// Closes our half and reads on for a moment: closing with bytes unread would reset the connection under our reply.
async fn linger(stream: &mut Stream) {
    let discard = async {
        stream.shutdown().await?;
        let mut buf = [0; 4096];
        while stream.read(&mut buf).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Either way the connection is over: the error, or the time that ran out, changes nothing.
    let _ = timeout(LINGER, Box::pin(discard)).await;
}

struct Conn<'a, H> {
    stream: &'a mut Stream,
    inbox: Inbox,
    exchange: Exchange<'a, H>,
    /// Since when a line has been awaited: the first one, the rest of one, or the next of an idle session.
    waiting_since: Instant,
    /// Since when there is something to write that the peer has not taken.
    writing_since: Instant,
    reader: Reader<'a>,
    written: usize,
    timer: Pin<Box<Sleep>>,
    /// Whether a line has begun and is not whole.
    part: bool,
    /// Whether the server is stopping: what has come by now is answered, nothing later.
    stopping: bool,
    /// When a connection that has not asked is closed, once the server stops.
    last_call: Instant,
}

impl<'a, H: Handler> Conn<'a, H> {
    fn new(stream: &'a mut Stream, from: IpAddr, shared: &'a Shared<H>) -> Self {
        let now = Instant::now();
        let exchange = Exchange::new(from, shared, now);
        Self {
            stream,
            inbox: Inbox::new(MAX_LINE),
            exchange,
            waiting_since: now,
            writing_since: now,
            reader: shared.limits.unread.reader(),
            written: 0,
            timer: Box::pin(sleep_until(now + shared.limits.line_deadline)),
            part: false,
            stopping: false,
            last_call: now,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<End>> {
        loop {
            self.exchange.now = Instant::now();
            if self.exchange.outbox.is_empty() {
                // The time for taking a reply does not begin before the reply.
                self.writing_since = self.exchange.now;
            }
            let mut progress = self.exchange.poll_pending(cx);
            progress |= self.poll_read(cx)?;
            progress |= self.poll_write(cx)?;
            if self.exchange.is_done() {
                let unread = self.exchange.unread || self.inbox.has_more();
                return Poll::Ready(Ok(if unread { End::Unread } else { End::Clean }));
            }
            if progress {
                continue;
            }
            // Who is connected and has not asked yet was promised an answer by the kernel: it gets a moment.
            if !self.stopping || self.exchange.phase != Phase::Session || self.inbox.has_line() {
                return self.poll_deadline(cx);
            }
            // All that had come is read by now; on a session, more may be on its way.
            self.exchange.unread = true;
            self.exchange.phase = Phase::Ending;
        }
    }

    /// The server stops: what has come is answered, and a first line that is on its way.
    fn stop(&mut self) {
        self.stopping = true;
        self.last_call = Instant::now() + LAST_CALL;
    }

    /// Reads and answers while there is room. True when something was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        self.exchange.look_around();
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
            Filled::Bad(LineError::TooLong) => self.exchange.refuse("the line is longer than 8 KiB"),
            Filled::Bad(LineError::NotText) => self.exchange.refuse("the line is not UTF-8"),
            Filled::Bad(LineError::CutShort) => self.exchange.refuse("the stream ended before the line did"),
            Filled::Bad(LineError::Stream(error)) => return Err(error),
        }
        // A part of a line has to become whole within its deadline, however many bytes trickle in.
        let part = self.inbox.has_part();
        if self.exchange.taken > taken || (part && !self.part && before == Phase::Session) {
            self.waiting_since = self.exchange.now;
        }
        self.part = part;
        Ok(true)
    }

    /// Writes what is ready. True when something left.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if self.exchange.outbox.is_empty() {
            return Ok(false);
        }
        if self.exchange.is_over() {
            cork(self.stream);
        }
        let Poll::Ready(written) = self.exchange.outbox.poll_write(cx, self.stream)? else {
            let bytes = self.exchange.outbox.settle();
            self.reader.is_waited_for(cx, bytes, self.writing_since, self.exchange.now)?;
            return Ok(false);
        };
        if self.exchange.outbox.is_empty() {
            self.reader.is_done();
        }
        self.written += written;
        if self.written >= PROGRESS || self.exchange.outbox.is_empty() {
            self.written = 0;
            self.writing_since = self.exchange.now;
        }
        if !self.part {
            self.waiting_since = self.exchange.now;
        }
        Ok(true)
    }

    /// Cuts what waits too long. The timer is moved only when it fires: a busy connection never touches it.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<End>> {
        loop {
            let deadline = self.deadline();
            let early = deadline.is_some_and(|deadline| deadline < self.timer.deadline());
            if early && let Some(deadline) = deadline {
                self.timer.as_mut().reset(deadline);
            }
            // Also when reading has used up what this turn of the task may do.
            ready!(pin!(unconstrained(self.timer.as_mut())).poll(cx));
            self.exchange.now = Instant::now();
            match deadline {
                Some(deadline) if deadline <= self.exchange.now => return self.poll_cut(cx),
                Some(deadline) => self.timer.as_mut().reset(deadline),
                // Nothing but a pending request, which has a deadline of its own: look again later.
                None => {
                    self.timer.as_mut().reset(self.exchange.now + self.exchange.shared.limits.idle_deadline);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let limits = &self.exchange.shared.limits;
        if !self.exchange.outbox.is_empty() {
            return Some(self.writing_since + limits.write_deadline);
        }
        match self.exchange.phase {
            Phase::Plain if self.stopping => {
                Some(self.last_call.min(self.waiting_since + limits.line_deadline))
            }
            Phase::Plain => Some(self.waiting_since + limits.line_deadline),
            Phase::Session if self.part => Some(self.waiting_since + limits.line_deadline),
            Phase::Session if self.exchange.is_idle() => Some(self.waiting_since + limits.idle_deadline),
            Phase::Session | Phase::Ending => None,
        }
    }

    /// A deadline has passed: who sent half a line is told, who sent nothing or takes nothing is not.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<End>> {
        if !self.part || !self.exchange.outbox.is_empty() {
            return Poll::Ready(Ok(End::Cut));
        }
        self.part = false;
        self.exchange.refuse("the line did not come whole within its deadline");
        self.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::time::{pause, resume, sleep};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::handler::{Answer, Ask};
    use crate::net::transport::tests::narrow;
    use crate::net::{Server, ServerLimits};
    use crate::wire::Status;

    const LONG: usize = 1 << 20;

    /// Has the same long line for everything.
    struct Same;

    impl Handler for Same {
        fn answer(self: &Arc<Self>, _: Ask<'_>) -> Answer {
            Answer::Now(Reply::relayed(Status::Ok, Bytes::from(vec![b'x'; LONG])))
        }
    }

    #[tokio::test]
    async fn the_time_for_taking_a_reply_begins_with_the_reply() {
        let (listener, asker) = narrow().await;
        let server = Server::new(Arc::new(Same), ServerLimits::default(), CancellationToken::new());
        tokio::spawn(async move { server.serve(listener).await });
        let (mut asker, mut line) = (BufReader::new(asker), Vec::new());
        asker.write_all(b"HELLO 2\n").await.unwrap();
        asker.read_until(b'\n', &mut line).await.unwrap();
        // The timer of the first line fires, and then nothing happens for a minute.
        pause();
        sleep(Duration::from_secs(66)).await;
        resume();
        line.clear();
        asker.write_all(b"1 GET a/1\n").await.unwrap();
        asker.read_until(b'\n', &mut line).await.unwrap();
        assert_eq!(line.len(), LONG + 3);
    }
}
