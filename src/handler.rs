//! The seam between a front end and a role: a request goes in, a reply comes out.
//!
//! The three roles are handlers; the line server and the HTTP gateway are front ends over the same one.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use crate::wire::{Reply, Request, Status, Tell};

/// A request with its circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The verb and its key.
    pub request: Request<'a>,
    /// The address of the client.
    pub from: IpAddr,
    /// The time of arrival: requests that arrive together share one reading of the clock.
    pub now: Instant,
    /// The time at which the client gives up, if it sent a deadline.
    pub deadline: Option<Instant>,
    /// What the reply is to tell beside the document, as far as it is known.
    pub tell: Tell<'a>,
    /// The id of the request on all nodes, if it has one.
    pub trace: Option<&'a str>,
    /// The `traceparent` of the request, unparsed (W3C Trace Context).
    pub parent: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// A request without options: no deadline, and no trace.
    pub fn new(request: Request<'a>, from: IpAddr, now: Instant) -> Self {
        Self { request, from, now, deadline: None, tell: Tell::default(), trace: None, parent: None }
    }
}

/// A reply, or the wait for one.
pub enum Answer {
    /// Ready: no task, no timer, no allocation. This is the path of a hit.
    Now(Reply),
    /// Needs a file, a fetch or another node. It completes by itself: every wait in it has a deadline.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Answer {
    /// The answer of a future.
    pub fn later(reply: impl Future<Output = Reply> + Send + 'static) -> Self {
        Answer::Later(Box::pin(reply))
    }

    /// The answer of a future in a task of its own: it runs to its end even if the client leaves.
    pub fn apart(reply: impl Future<Output = Reply> + Send + 'static) -> Self {
        let task = tokio::spawn(reply);
        let cut_short = || Reply::text(Status::Overloaded, "the request was cut short; ask again");
        Self::later(async move { task.await.unwrap_or_else(|_| cut_short()) })
    }

    /// Waits for the reply.
    pub async fn reply(self) -> Reply {
        match self {
            Answer::Now(reply) => reply,
            Answer::Later(reply) => reply.await,
        }
    }
}

/// A role: origin, proxy or balancer.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Must not block: it runs on the threads that serve connections.
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer;

    /// The port on which this role serves HTTP as well, if it does.
    fn http_port(&self) -> Option<u16> {
        None
    }

    /// The reply to a line that is not a request, in the form of this role's errors.
    fn error(&self, status: Status, text: String) -> Reply {
        Reply::text(status, text)
    }
}
