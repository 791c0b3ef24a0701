//! A connection a request.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, timeout_at};

use super::MAX_REPLY;
use super::tally::Failure;
use super::worker::Worker;
use crate::net::LinkError;
use crate::net::link::exchange;
use crate::wire::{Key, Request};

/// Asks one after the other until there is nothing more to ask.
pub(super) async fn run(worker: Arc<Worker>, index: usize) {
    let mut path = Vec::new();
    worker.wait_for_start().await;
    while let Some(due) = next(&worker, index, &mut path).await {
        let Ok(key) = Key::parse(&path) else { return };
        let deadline = due + worker.orders.timeout;
        let asked = async {
            let mut stream = worker.dial().await.map_err(|_| LinkError::Refused)?;
            exchange(&mut stream, Request::Get(key), MAX_REPLY, deadline).await
        };
        let result = timeout_at(deadline, asked).await.unwrap_or(Err(LinkError::Late));
        let now = Instant::now();
        let failure = match result {
            Ok(line) => {
                worker.state().tally.reply(due, now, &line);
                continue;
            }
            Err(LinkError::Refused | LinkError::Unresolved) => Failure::Refused,
            Err(LinkError::Broken | LinkError::Busy) => Failure::Broken,
            Err(LinkError::Late) => Failure::Late,
            Err(LinkError::Garbage) => Failure::Bad,
        };
        worker.state().tally.failure(due, now, failure);
        if failure == Failure::Refused && !worker.pause().await {
            return;
        }
    }
}

/// Waits for the next request: since when it is due. `None` when there are no more.
async fn next(worker: &Worker, index: usize, path: &mut Vec<u8>) -> Option<Instant> {
    poll_fn(|cx| {
        let now = Instant::now();
        let mut state = worker.state();
        if let Some(due) = state.feed.take(now) {
            path.clear();
            state.order.write_next(path);
            return Poll::Ready(Some(due));
        }
        if state.feed.is_over(now) {
            return Poll::Ready(None);
        }
        state.wait(index, cx);
        Poll::Pending
    })
    .await
}
