//! One connection with a session of its own, tuned for load: no task, channel or timer for a request.
//!
//! ```text
//!   dial ▶ HELLO ▶ ( read ▶ count what came ▶ fill the places ▶ write )* ▶ nothing more to ask
//!     ▲                                   │
//!     └─────────── after a pause ◀────lost┘
//! ```

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::MAX_REPLY;
use super::slots::Slots;
use super::tally::{Failure, Tally};
use super::worker::{State, Worker};
use crate::net::link::hello;
use crate::net::transport::Stream;
use crate::wire::request::split_id;

/// Keeps a session and asks on it until there is nothing more to ask.
pub(super) async fn run(worker: Arc<Worker>, index: usize) {
    loop {
        match open(&worker).await {
            Some((stream, most)) => {
                worker.wait_for_start().await;
                let mut traffic = Traffic::new(&worker, index, stream, most);
                let lost = poll_fn(|cx| traffic.poll(cx)).await.is_err();
                if !lost {
                    return;
                }
            }
            None => worker.refused(),
        }
        if !worker.pause().await {
            return;
        }
    }
}

/// A new session, and how many requests it may have in flight.
async fn open(worker: &Worker) -> Option<(Stream, usize)> {
    let mut stream = worker.dial().await.ok()?;
    let most = timeout(worker.orders.timeout, hello(&mut stream)).await.ok()?.ok()??;
    Some((stream, worker.orders.in_flight.min(most).max(1)))
}

/// A session that is over before its time. Whom it left without a reply is counted already.
struct Lost;

struct Traffic<'a> {
    worker: &'a Worker,
    index: usize,
    stream: Stream,
    slots: Slots,
    out: Vec<u8>,
    sent: usize,
    /// The beginning of a reply whose end has not come.
    tail: Vec<u8>,
    /// Set for when the first in flight may be late; looked at no sooner.
    timer: Pin<Box<Sleep>>,
    check_at: Option<Instant>,
}

impl<'a> Traffic<'a> {
    fn new(worker: &'a Worker, index: usize, stream: Stream, most: usize) -> Self {
        Self {
            worker,
            index,
            stream,
            slots: Slots::new(most),
            out: Vec::new(),
            sent: 0,
            tail: Vec::new(),
            timer: Box::pin(sleep_until(Instant::now() + Duration::from_secs(3600))),
            check_at: None,
        }
    }

    /// Moves bytes until there is nothing more to ask and nothing to wait for.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let worker = self.worker;
        let state = &mut *worker.state();
        let mut failed = loop {
            match self.poll_read(cx, state) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => break Some(failure),
                Poll::Pending => break None,
            }
        };
        let now = Instant::now();
        if failed.is_none() {
            self.give_up_late(now, &mut state.tally);
            self.fill(now, state, cx);
            self.wait_for_late(cx);
            failed = self.write(cx).err();
        }
        if let Some(failure) = failed.or(self.slots.is_stuck().then_some(Failure::Broken)) {
            self.slots.drain().for_each(|due| state.tally.failure(due, now, failure));
            return Poll::Ready(Err(Lost));
        }
        match self.slots.is_empty() && state.feed.is_over(now) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Takes in what has come.
    fn poll_read(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Result<(), Failure>> {
        let mut buf = ReadBuf::new(&mut state.scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Broken)),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Err(Failure::Broken)),
            Poll::Ready(Ok(())) => {}
        }
        let now = Instant::now();
        let mut rest = buf.filled();
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            let came = if self.tail.is_empty() {
                count(&mut self.slots, &mut state.tally, now, line)
            } else {
                self.tail.extend_from_slice(line);
                let came = count(&mut self.slots, &mut state.tally, now, &self.tail);
                self.tail.clear();
                came
            };
            if let Err(failure) = came {
                return Poll::Ready(Err(failure));
            }
            rest = after;
        }
        self.tail.extend_from_slice(rest);
        let is_too_long = self.tail.len() > MAX_REPLY;
        Poll::Ready(if is_too_long { Err(Failure::Bad) } else { Ok(()) })
    }

    /// Asks what is due, as far as there are places.
    fn fill(&mut self, now: Instant, state: &mut State, cx: &Context<'_>) {
        let mut share = if self.worker.orders.is_open_loop { state.share(now) } else { usize::MAX };
        while self.slots.has_room() && share > 0 {
            let Some(due) = state.feed.take(now) else { break };
            let id = self.slots.insert(due);
            self.out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
            self.out.extend_from_slice(b" GET ");
            state.order.write_next(&mut self.out);
            self.out.push(b'\n');
            share -= 1;
            if self.check_at.is_none() {
                self.check_at = Some(due + self.worker.orders.timeout);
            }
        }
        if self.worker.orders.is_open_loop && self.slots.has_room() {
            state.wait(self.index, cx);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while self.sent < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.sent..]) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(n)) if n > 0 => self.sent += n,
                Poll::Ready(_) => return Err(Failure::Broken),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Gives up requests whose time has passed. Their places are free once their replies come.
    fn give_up_late(&mut self, now: Instant, tally: &mut Tally) {
        if self.check_at.is_some_and(|at| at <= now) {
            let timeout = self.worker.orders.timeout;
            self.slots.give_up(|due| {
                let is_late = due + timeout <= now;
                if is_late {
                    tally.failure(due, now, Failure::Late);
                }
                is_late
            });
            self.check_at = self.slots.first_due().map(|due| due + timeout);
        }
    }

    /// Sees to it that the task is woken when the first may be late.
    fn wait_for_late(&mut self, cx: &mut Context<'_>) {
        if let Some(at) = self.check_at
            && at != self.timer.deadline()
        {
            self.timer.as_mut().reset(at);
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}

/// Counts one line: a reply to a request that is in flight, or else nothing of this session can be trusted.
fn count(slots: &mut Slots, tally: &mut Tally, now: Instant, line: &[u8]) -> Result<(), Failure> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (id, reply) = split_id(line).ok_or(Failure::Bad)?;
    if let Some(due) = slots.take(id).ok_or(Failure::Bad)? {
        tally.reply(due, now, reply);
    }
    Ok(())
}
