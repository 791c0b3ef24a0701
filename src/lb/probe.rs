//! Active health checks: every node's METRICS are asked for, all at the same time, each under a deadline.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Lb;
use super::node::{Node, Source};
use crate::net::LinkError;
use crate::wire::{ReplyView, Request, Status};

/// A poll must be answered within the interval, and within this.
const POLL_DEADLINE: Duration = Duration::from_secs(1);
/// Each poll begins up to this part of the interval late, so that balancers do not poll in step.
const JITTER: f64 = 0.1;

impl Lb {
    /// Polls every node, every interval, for ever.
    pub async fn probe(self: Arc<Self>) {
        let mut tick = interval(self.health_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let mut polls = JoinSet::new();
            for node in &self.nodes {
                let late = self.health_interval.mul_f64(JITTER * fastrand::f64());
                polls.spawn(poll(node.clone(), late, self.health_interval.min(POLL_DEADLINE)));
            }
            polls.join_all().await;
        }
    }
}

async fn poll(node: Arc<Node>, late: Duration, deadline: Duration) {
    sleep(late).await;
    match node.link().ask_apart(Request::Metrics, Instant::now() + deadline).await {
        Ok(line) => match read(&line) {
            Some((metrics, total)) => node.polled(metrics, total),
            None => node.failed(Source::Poll, "its METRICS are no metrics", true),
        },
        // It turned the poll away with our own limit, so nothing was learned.
        Err(LinkError::Busy) => {}
        Err(error) => node.failed(Source::Poll, &error.to_string(), true),
    }
}

/// The metrics, and how many requests the node has had in all. Older nodes print floats for whole numbers.
fn read(line: &[u8]) -> Option<(Box<RawValue>, u64)> {
    #[derive(serde::Deserialize)]
    struct Total {
        total_requests: f64,
    }
    let reply = ReplyView::parse(line).ok().filter(|reply| reply.status == Status::Ok)?;
    let total: Total = serde_json::from_str(reply.data).ok()?;
    let metrics = RawValue::from_string(reply.data.to_owned()).ok()?;
    Some((metrics, total.total_requests as u64))
}
