//! What the three roles are to whoever fronts them: something that answers requests.
//!
//! The line server and the HTTP gateway are two front ends over the same handler.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::wire::{Reply, Request, Status};

/// A request, and what is known of who asks.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What is asked for.
    pub request: Request<'a>,
    /// The address that it came from.
    pub from: IpAddr,
    /// When it was read: what came together has one look at the clock in common.
    pub now: Instant,
    /// When the asker gives up, if it said so.
    pub deadline: Option<Instant>,
    /// Whether the times of a document are to be told, as far as they are known.
    pub tell_times: bool,
    /// The id of the request across nodes, if it has one.
    pub trace: Option<&'a str>,
    /// The `traceparent` that it came with, as it came.
    pub parent: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// A question of which no more is known than that: it waits as long as it takes and belongs to no trace.
    pub fn new(request: Request<'a>, from: IpAddr, now: Instant) -> Self {
        Self { request, from, now, deadline: None, tell_times: false, trace: None, parent: None }
    }
}

/// An answer: at once, or when something else has answered.
pub enum Answer {
    /// What is known already is answered without a task, a timer or an allocation: the path of a hit.
    Now(Reply),
    /// What takes a file, a fetch or another node. It must end by itself: every wait within has a deadline.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Answer {
    /// An answer that takes a while.
    pub fn later(reply: impl Future<Output = Reply> + Send + 'static) -> Self {
        Answer::Later(Box::pin(reply))
    }

    /// Waits for it.
    pub async fn reply(self) -> Reply {
        match self {
            Answer::Now(reply) => reply,
            Answer::Later(reply) => reply.await,
        }
    }
}

/// A role.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Must not block: it runs where connections are served.
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer;

    /// The reply to a line that never gets as far as that, in the form of this role's errors.
    fn error(&self, status: Status, text: String) -> Reply {
        Reply::text(status, text)
    }
}
