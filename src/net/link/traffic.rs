//! The bytes of an open session: requests out, replies in, and who has waited too long.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use memchr::memchr;
use tokio::io::AsyncWrite;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::LinkError;
use super::reading::Reading;
use super::session::{Session, State};
use crate::net::lines::without_cr;
use crate::net::transport::Stream;
use crate::wire::request::split_id;

/// After so many bytes those who wait for them go first: replies leave, and give their chunk back to be read into anew,
/// while they are hot in the core's cache.
const TURN: usize = 256 * 1024;
/// The longest id, and its space.
const ID: usize = 21;
/// A reply that is this many times too long is taken to have no end.
const SKIP: usize = 16;
/// A timer that nothing waits for.
const FAR: Duration = Duration::from_secs(3600);

/// The bytes of an open session.
pub(super) struct Traffic<'a> {
    session: &'a Session,
    stream: Stream,
    sending: Vec<u8>,
    sent: usize,
    reading: Reading,
    /// Within a reply that was too long: its end is awaited.
    skipping: bool,
    /// How much of it was passed over.
    skipped: usize,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Traffic<'a> {
    /// An open session's, over its stream.
    pub(super) fn new(session: &'a Session, stream: Stream) -> Self {
        Self {
            session,
            stream,
            sending: Vec::new(),
            sent: 0,
            reading: Reading::default(),
            skipping: false,
            skipped: 0,
            timer: Box::pin(sleep_until(Instant::now() + FAR)),
        }
    }

    /// Moves bytes until the session is over; tells why it is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkError> {
        let mut read = 0;
        loop {
            let deadline = {
                let mut inner = self.session.lock();
                if inner.state != State::Open {
                    return Poll::Ready(inner.error);
                }
                if self.sent == self.sending.len() {
                    self.sending.clear();
                    self.sent = 0;
                    std::mem::swap(&mut self.sending, &mut inner.out);
                }
                inner.task = Some(cx.waker().clone());
                inner.next_deadline
            };
            let moved = self.poll_write(cx).map_err(|_| LinkError::Broken);
            match (moved, self.poll_read(cx)) {
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(error),
                (_, Poll::Ready(Ok(n))) => {
                    read += n;
                    if read < TURN {
                        continue;
                    }
                    // Who is late is told in this turn all the same: there may always be more.
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

    /// True when something left.
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
        let n = ready!(self.reading.poll_fill(cx, &mut self.stream));
        let n = n.unwrap_or(0);
        if n == 0 {
            return Poll::Ready(Err(LinkError::Broken));
        }
        let lines = self.reading.take_lines().unwrap_or_default();
        let mut inner = self.session.lock();
        let mut from = 0;
        while let Some(end) = memchr(b'\n', &lines[from..]).map(|at| from + at) {
            let line = without_cr(&lines[from..end]);
            from = end + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let (id, reply) = split_id(line).ok_or(LinkError::Garbage)?;
            let is_short = reply.len() <= self.session.limits.max_reply;
            let result = if is_short { Ok(lines.slice_ref(reply)) } else { Err(LinkError::Garbage) };
            inner.deliver(id, result)?;
        }
        let (part, max_reply) = (self.reading.part(), self.session.limits.max_reply);
        if self.skipping || part.len() > max_reply + ID {
            // Too long, and it has not ended: its caller is told, the others on the session are not harmed.
            if !std::mem::replace(&mut self.skipping, true) {
                self.skipped = 0;
                let (id, _) = split_id(&part[..ID]).ok_or(LinkError::Garbage)?;
                inner.deliver(id, Err(LinkError::Garbage))?;
            }
            self.skipped += part.len();
            self.reading.forget();
            if self.skipped > SKIP * max_reply {
                // It will not end: the others are better served on another session.
                return Poll::Ready(Err(LinkError::Garbage));
            }
        }
        inner.promote();
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
        // Also when reading has used up what this turn of the task may do: bytes without a break do not put it off.
        ready!(pin!(unconstrained(self.timer.as_mut())).poll(cx));
        let mut inner = self.session.lock();
        let now = Instant::now();
        if inner.next_deadline.is_some_and(|next| next <= now) {
            inner.expire(now, &self.session.limits)?;
        }
        let next = inner.next_deadline.unwrap_or(now + FAR);
        drop(inner);
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
    use crate::wire::Request;

    #[tokio::test(start_paused = true)]
    async fn bytes_without_a_break_put_no_deadline_off() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let stream = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        let session = Session::new("127.0.0.1:1".parse().unwrap(), LinkLimits::default());
        session.lock().state = State::Open;
        let deadline = Instant::now();
        let answer = session.call(Request::Metrics, false, deadline, deadline).unwrap();
        advance(Duration::from_millis(20)).await;
        let mut traffic = Traffic::new(&session, stream);
        let turn = poll_fn(|cx| {
            // As after a hundred reads that all brought something.
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            Poll::Ready(traffic.poll(cx).is_pending())
        });
        assert!(turn.await, "the session goes on");
        assert_eq!(timeout(Duration::from_secs(9), answer).await.unwrap(), Err(LinkError::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_always_has_more_puts_no_deadline_off() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let stream = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let session = Session::new("127.0.0.1:1".parse().unwrap(), LinkLimits::default());
        session.lock().state = State::Open;
        let deadline = Instant::now();
        let mut answer = pin!(session.call(Request::Metrics, false, deadline, deadline).unwrap());
        // More of a reply than one turn reads, and not its end.
        let reply = [b"0 ".to_vec(), vec![b'x'; 3 * TURN]].concat();
        let _ = timeout(Duration::from_millis(100), far.write_all(&reply)).await;
        stream.readable().await.unwrap();
        let mut traffic = Traffic::new(&session, stream);
        let late = poll_fn(|cx| {
            assert!(traffic.poll(cx).is_pending(), "the session goes on");
            Poll::Ready(answer.as_mut().poll(cx))
        });
        assert_eq!(late.await, Poll::Ready(Err(LinkError::Late)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_was_asked_is_no_silence() {
        let session = Session::new("127.0.0.1:1".parse().unwrap(), LinkLimits::default());
        session.lock().state = State::Open;
        let ask = |patience: u64| {
            let now = Instant::now();
            session.call(Request::Metrics, false, now + Duration::from_millis(patience), now).unwrap()
        };
        let expire = || session.lock().expire(Instant::now(), &LinkLimits::default());
        let first = ask(1_000);
        session.lock().deliver(0, Ok(Default::default())).unwrap();
        assert!(first.await.is_ok());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(expire(), Ok(()), "the timer of what was answered");
        sleep(Duration::from_secs(9)).await;
        let impatient = ask(50);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(expire(), Ok(()), "that its asker gave up so soon proves nothing");
        assert_eq!(impatient.await, Err(LinkError::Late));
        let patient = ask(2_000);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(expire(), Err(LinkError::Broken), "and this one was silence");
        assert_eq!(patient.await, Err(LinkError::Late));
    }
}
