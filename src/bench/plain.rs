//! A connection for each request.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, timeout_at};

use super::MAX_REPLY;
use super::measurements::Failed;
use super::worker::Worker;
use crate::net::LinkError;
use crate::net::link::ask_on;
use crate::wire::{Key, Request};

/// Sends one request after the other until the run is over.
pub(super) async fn run(worker: Arc<Worker>, index: usize) {
    let mut path = Vec::new();
    worker.wait_for_start().await;
    while let Some(due) = next(&worker, index, &mut path).await {
        let Ok(key) = Key::from_bytes(&path) else { return };
        let deadline = due + worker.config.timeout;
        let exchanged = async {
            let mut place = worker.pace.place().await;
            ask_on(worker.dial(), &mut place, Request::Get(key), MAX_REPLY, deadline).await
        };
        let result = timeout_at(deadline, exchanged).await.unwrap_or(Err(LinkError::Late));
        let now = Instant::now();
        let failure = match result {
            Ok(line) => {
                worker.state().measurements.reply(due, now, &line);
                continue;
            }
            Err(LinkError::Refused | LinkError::Unresolved | LinkError::Tls(_)) => Failed::Refused,
            Err(LinkError::Broken | LinkError::Busy | LinkError::Exhausted) => Failed::Broken,
            Err(LinkError::Late) => Failed::Late,
            Err(LinkError::Garbage | LinkError::TooLong | LinkError::NotText) => Failed::Bad,
        };
        worker.state().measurements.failure(due, now, failure);
        if failure == Failed::Refused && !worker.pause().await {
            return;
        }
    }
}

/// Waits until a request is due, writes its key to `path` and returns when it was due. `None` when the run is over.
pub(super) async fn next(worker: &Worker, index: usize, path: &mut Vec<u8>) -> Option<Instant> {
    poll_fn(|cx| {
        let now = Instant::now();
        let mut state = worker.state();
        if let Some(due) = state.schedule.take(now) {
            path.clear();
            state.keys.write_next(path);
            return Poll::Ready(Some(due));
        }
        if state.schedule.is_over(now) {
            return Poll::Ready(None);
        }
        state.wait(index, cx);
        Poll::Pending
    })
    .await
}
