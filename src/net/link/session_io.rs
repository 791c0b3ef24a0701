//! Socket input and output of an open session, and the expiry of its requests: one future, polled by the session's task.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use memchr::memchr;
use tokio::io::AsyncWrite;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::LinkError;
use super::reading::Reading;
use super::session::{Session, Stage};
use crate::net::lines::without_cr;
use crate::net::transport::Stream;
use crate::wire::request::split_id;

/// Bytes read before the callers get their turn: they then use the replies, and free their chunks for the next reads, while
/// both are in the core's cache.
const BYTES_A_TURN: usize = 256 * 1024;
/// The longest id (20 digits) and the space behind it.
const ID_LENGTH: usize = 21;
/// The bytes of a reply that is too long which are skipped, so that the session can go on; then it is taken to be endless.
const SKIPPED: usize = 64 * 1024 * 1024;
/// Where the timer stands while no deadline is near.
const FAR: Duration = Duration::from_secs(3600);

pub(super) struct SessionIo<'a> {
    session: &'a Session,
    stream: Stream,
    sending: Vec<u8>,
    /// Bytes of `sending` that the socket has taken.
    sent: usize,
    reading: Reading,
    /// Within a reply that is too long: the bytes of it that were dropped.
    skipped: Option<usize>,
    timer: Pin<Box<Sleep>>,
}

impl<'a> SessionIo<'a> {
    pub(super) fn new(session: &'a Session, stream: Stream) -> Self {
        Self {
            session,
            stream,
            sending: Vec::new(),
            sent: 0,
            reading: Reading::new(session.limits.max_reply + ID_LENGTH),
            skipped: None,
            timer: Box::pin(sleep_until(Instant::now() + FAR)),
        }
    }

    /// Ends with the session, and returns why it ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        let mut read = 0;
        loop {
            let deadline = {
                let mut state = self.session.lock();
                match state.stage {
                    Stage::Open | Stage::Granted => {}
                    Stage::Leaving if state.any_waits() => {}
                    _ => return Poll::Ready(LinkError::Broken),
                }
                if self.sent == self.sending.len() {
                    self.sending.clear();
                    self.sent = 0;
                    std::mem::swap(&mut self.sending, &mut state.out);
                }
                state.task = Some(cx.waker().clone());
                state.next_deadline
            };
            let moved = self.poll_write(cx).map_err(|_| LinkError::Broken);
            match (moved, self.poll_read(cx)) {
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(error),
                (_, Poll::Ready(Ok(n))) => {
                    read += n;
                    if read < BYTES_A_TURN {
                        continue;
                    }
                    // Deadlines are still looked at in this turn: a peer may always have more bytes.
                    cx.waker().wake_by_ref();
                }
                (Poll::Ready(Ok(true)), Poll::Pending) => continue,
                (Poll::Ready(Ok(false)) | Poll::Pending, Poll::Pending) => {}
            }
            if let Err(error) = ready!(self.poll_deadline(cx, deadline)) {
                return Poll::Ready(error);
            }
        }
    }

    /// Whether any bytes were written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut moved = false;
        while self.sent < self.sending.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.sending[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => self.sent += n,
                Poll::Pending if moved => break,
                Poll::Pending => return Poll::Pending,
            }
            moved = true;
        }
        Poll::Ready(Ok(moved))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, LinkError>> {
        let n = ready!(self.reading.poll_fill(cx, &mut self.stream)).unwrap_or(0);
        if n == 0 {
            return Poll::Ready(Err(LinkError::Broken));
        }
        let (lines, mut next_end) = match self.reading.take_lines() {
            Some((lines, first_end)) => (lines, Some(first_end)),
            None => (Bytes::new(), None),
        };
        let max_reply = self.session.limits.max_reply;
        let mut state = self.session.lock();
        let mut from = 0;
        while let Some(end) = next_end {
            let line = without_cr(&lines[from..end]);
            from = end + 1;
            next_end = memchr(b'\n', &lines[from..]).map(|at| from + at);
            if self.skipped.take().is_some() {
                continue;
            }
            let (id, reply) = split_id(line).ok_or(LinkError::Garbage)?;
            let is_short = reply.len() <= max_reply;
            let result = if is_short { Ok(lines.slice_ref(reply)) } else { Err(LinkError::TooLong) };
            state.deliver(id, result)?;
        }
        let part = self.reading.part();
        if self.skipped.is_some() || part.len() > max_reply + ID_LENGTH {
            // A reply that is too long fails its own request; the other requests of the session go on.
            if self.skipped.is_none() {
                let (id, _) = split_id(&part[..ID_LENGTH]).ok_or(LinkError::Garbage)?;
                state.deliver(id, Err(LinkError::TooLong))?;
            }
            let skipped = self.skipped.unwrap_or(0) + part.len();
            if skipped > SKIPPED.max(max_reply) {
                // The requests behind it may be sent again, on a session of their own.
                return Poll::Ready(Err(LinkError::Broken));
            }
            self.skipped = Some(skipped);
            self.reading.forget();
        }
        state.send_queued();
        Poll::Ready(Ok(n))
    }

    fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Option<Instant>,
    ) -> Poll<Result<(), LinkError>> {
        let Some(deadline) = deadline else { return Poll::Pending };
        if deadline < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
        }
        // `unconstrained`: reading may have used up the task's budget for this turn, and must not delay the timer.
        ready!(pin!(unconstrained(self.timer.as_mut())).poll(cx));
        let mut state = self.session.lock();
        let now = Instant::now();
        if state.next_deadline.is_some_and(|next| next <= now) {
            state.expire(now, &self.session.limits)?;
        }
        let next = state.next_deadline.unwrap_or(now + FAR);
        drop(state);
        self.timer.as_mut().reset(next);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::task::coop;
    use tokio::time::{advance, sleep, timeout};

    use super::*;
    use crate::net::link::LinkLimits;
    use crate::net::transport::Listener;
    use crate::wire::{Request, Tell};

    #[tokio::test(start_paused = true)]
    async fn an_unbroken_stream_of_bytes_delays_no_deadline() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let stream = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        let session = Session::new("127.0.0.1:1".parse().unwrap(), LinkLimits::default());
        session.lock().stage = Stage::Open;
        let deadline = Instant::now();
        let reply = session.call(Request::Metrics, Tell::default(), deadline, deadline).unwrap();
        advance(Duration::from_millis(20)).await;
        let mut io = SessionIo::new(&session, stream);
        let turn = poll_fn(|cx| {
            // As after many reads in a row that all brought bytes.
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            Poll::Ready(io.poll(cx).is_pending())
        });
        assert!(turn.await, "the session is open");
        assert_eq!(timeout(Duration::from_secs(9), reply).await.unwrap(), Err(LinkError::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_does_not_end_delays_no_deadline() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let stream = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let session = Session::new("127.0.0.1:1".parse().unwrap(), LinkLimits::default());
        session.lock().stage = Stage::Open;
        let deadline = Instant::now();
        let mut awaited = pin!(session.call(Request::Metrics, Tell::default(), deadline, deadline).unwrap());
        // The beginning of a reply, longer than what one turn reads.
        let reply = [b"0 ".to_vec(), vec![b'x'; 3 * BYTES_A_TURN]].concat();
        let _ = timeout(Duration::from_millis(100), far.write_all(&reply)).await;
        stream.readable().await.unwrap();
        let mut io = SessionIo::new(&session, stream);
        let late = poll_fn(|cx| {
            assert!(io.poll(cx).is_pending(), "the session is open");
            Poll::Ready(awaited.as_mut().poll(cx))
        });
        assert_eq!(late.await, Poll::Ready(Err(LinkError::Late)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_without_requests_is_not_silent() {
        let session = Session::new("127.0.0.1:1".parse().unwrap(), LinkLimits::default());
        session.lock().stage = Stage::Open;
        let ask = |patience: u64| {
            let now = Instant::now();
            session
                .call(Request::Metrics, Tell::default(), now + Duration::from_millis(patience), now)
                .unwrap()
        };
        let expire = || session.lock().expire(Instant::now(), &LinkLimits::default());
        let first = ask(1_000);
        session.lock().deliver(0, Ok(Default::default())).unwrap();
        assert!(first.await.is_ok());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(expire(), Ok(()), "the deadline of the answered request");
        sleep(Duration::from_secs(9)).await;
        let impatient = ask(50);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(expire(), Ok(()), "a deadline of 50 ms proves nothing");
        assert_eq!(impatient.await, Err(LinkError::Late));
        let patient = ask(2_000);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(expire(), Err(LinkError::Broken), "two seconds without any reply");
        assert_eq!(patient.await, Err(LinkError::Late));
    }
}
