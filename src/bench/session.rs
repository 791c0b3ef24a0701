//! One connection with a session of its own, tuned for load: no task, channel or timer for a request.
//!
//! ```text
//!   dial ▶ HELLO ▶ ( read ▶ count replies ▶ add requests that are due ▶ write )* ▶ the run is over
//!     ▲                          │
//!     └──── after a pause ◀─lost─┘
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
use super::measurements::{Failed, Measurements};
use super::worker::{Worker, WorkerState};
use crate::net::link::{Calls, Removed, hello};
use crate::net::transport::Stream;
use crate::wire::request::split_id;

/// Sends requests on a session, and on another one when it is lost, until the run is over.
pub(super) async fn run(worker: Arc<Worker>, index: usize) {
    loop {
        match open(&worker).await {
            Some((stream, limit)) => {
                worker.wait_for_start().await;
                let mut session = LoadSession::new(&worker, index, stream, limit);
                if poll_fn(|cx| session.poll(cx)).await.is_ok() {
                    return;
                }
            }
            None => worker.count_refused(),
        }
        if !worker.pause().await {
            return;
        }
    }
}

/// A new session, and the limit of requests in flight on it.
async fn open(worker: &Worker) -> Option<(Stream, usize)> {
    let mut stream = worker.dial().await.ok()?.stream;
    let limit = timeout(worker.config.timeout, hello(&mut stream)).await.ok()?.ok()??;
    Some((stream, worker.config.in_flight.min(limit)))
}

/// The session ended before the run did. Its requests without a reply are counted already.
struct Lost;

struct LoadSession<'a> {
    worker: &'a Worker,
    /// Of this connection within its worker.
    index: usize,
    stream: Stream,
    /// Of each request, when it was due.
    calls: Calls<Instant>,
    out: Vec<u8>,
    sent: usize,
    /// The beginning of a reply whose end has not come.
    tail: Vec<u8>,
    /// When to look for late requests: not after the first of them is late.
    check_at: Option<Instant>,
    /// Set to `check_at`.
    timer: Pin<Box<Sleep>>,
}

impl<'a> LoadSession<'a> {
    fn new(worker: &'a Worker, index: usize, stream: Stream, limit: usize) -> Self {
        Self {
            worker,
            index,
            stream,
            calls: Calls::new(limit),
            out: Vec::new(),
            sent: 0,
            tail: Vec::new(),
            check_at: None,
            timer: Box::pin(sleep_until(Instant::now() + Duration::from_secs(3600))),
        }
    }

    /// Ends when the run is over and no request waits for a reply, or when the session is lost.
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
            self.give_up_late(now, &mut state.measurements);
            self.send_due(now, state, cx);
            self.set_timer(cx);
            failed = self.write(cx).err();
        }
        let none_waits = self.calls.given_up() == self.calls.len();
        // All requests that may be in flight were given up: no further reply is expected.
        let is_stuck = none_waits && self.calls.is_full();
        if let Some(failure) = failed.or(is_stuck.then_some(Failed::Broken)) {
            self.calls.give_up(|_| true).for_each(|due| state.measurements.failure(due, now, failure));
            return Poll::Ready(Err(Lost));
        }
        match none_waits && state.schedule.is_over(now) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Reads once, and counts the replies.
    fn poll_read(&mut self, cx: &mut Context<'_>, state: &mut WorkerState) -> Poll<Result<(), Failed>> {
        let mut buf = ReadBuf::new(&mut state.scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed::Broken)),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Err(Failed::Broken)),
            Poll::Ready(Ok(())) => {}
        }
        let now = Instant::now();
        let mut rest = buf.filled();
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.tail.is_empty() {
                count(&mut self.calls, &mut state.measurements, now, line)?;
            } else {
                self.tail.extend_from_slice(line);
                count(&mut self.calls, &mut state.measurements, now, &self.tail)?;
                self.tail.clear();
            }
            rest = after;
        }
        self.tail.extend_from_slice(rest);
        let is_too_long = self.tail.len() > MAX_REPLY;
        Poll::Ready(if is_too_long { Err(Failed::Bad) } else { Ok(()) })
    }

    /// Appends the requests that are due, as many as may be in flight.
    fn send_due(&mut self, now: Instant, state: &mut WorkerState, cx: &Context<'_>) {
        let mut share = if self.worker.is_open_loop() { state.share(now) } else { usize::MAX };
        while !self.calls.is_full() && share > 0 {
            let Some(due) = state.schedule.take(now) else { break };
            let id = self.calls.insert(due);
            self.out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
            self.out.extend_from_slice(b" GET ");
            state.keys.write_next(&mut self.out);
            self.out.push(b'\n');
            share -= 1;
            if self.check_at.is_none() {
                self.check_at = Some(due + self.worker.config.timeout);
            }
        }
        if self.worker.is_open_loop() && !self.calls.is_full() {
            state.wait(self.index, cx);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        while self.sent < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.sent..]) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(n)) if n > 0 => self.sent += n,
                Poll::Ready(_) => return Err(Failed::Broken),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Gives up and counts the requests without a reply within the timeout. They are in flight until their replies come.
    fn give_up_late(&mut self, now: Instant, measurements: &mut Measurements) {
        if self.check_at.is_some_and(|at| at <= now) {
            let timeout = self.worker.config.timeout;
            let late = self.calls.give_up(|&due| due + timeout <= now);
            late.for_each(|due| measurements.failure(due, now, Failed::Late));
            self.check_at = self.calls.waiting().min().map(|&due| due + timeout);
        }
    }

    /// Wakes the task at `check_at`.
    fn set_timer(&mut self, cx: &mut Context<'_>) {
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

/// Counts the line of one reply. Fails when no request in flight has its id: then no other reply can be trusted either.
fn count(
    calls: &mut Calls<Instant>,
    measurements: &mut Measurements,
    now: Instant,
    line: &[u8],
) -> Result<(), Failed> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (id, reply) = split_id(line).ok_or(Failed::Bad)?;
    match calls.remove(id) {
        Removed::Waiting(due) => measurements.reply(due, now, reply),
        Removed::GivenUp => {}
        Removed::Unknown => return Err(Failed::Bad),
    }
    Ok(())
}
