//! One request at one node: from when it is sent until its reply has come, or nobody waits for it any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::Lb;
use super::node::Node;
use super::nodes::{Held, Place};
use super::tries::Outcome;
use crate::net::LinkError;
use crate::net::link::Awaited;
use crate::wire::{Key, KeyBuf, Reply, ReplyView, Request, Status};

/// A request that was sent to a node, and what comes of it.
pub(super) struct Asked {
    lb: Arc<Lb>,
    node: Held,
    /// What the strategy knows the node by.
    id: u64,
    key: KeyBuf,
    began: Instant,
    until: Instant,
    /// Whether `until` is our own bound, so that missing it is the node's failure.
    is_ours: bool,
    tell_times: bool,
    /// Whether it was asked again on another session already.
    again: bool,
    /// Whether the document was cached, if that was told.
    hit: Option<bool>,
    way: Way,
}

/// What an asker wants beside the document.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// When it gives up, if it said so.
    pub(super) deadline: Option<Instant>,
    /// Whether the times of the document are to be told.
    pub(super) tell_times: bool,
}

/// How the reply comes.
enum Way {
    /// On an open session: nearly always.
    Session(Awaited),
    /// Something has to be waited for first: a connection, or a place.
    Other(Pin<Box<dyn Future<Output = Result<Bytes, LinkError>> + Send>>),
}

impl Asked {
    /// Sends the request now. `Busy` when the node has as many as it may have.
    pub(super) fn new(
        lb: &Arc<Lb>,
        place: &Place,
        key: Key<'_>,
        began: Instant,
        terms: Terms,
    ) -> Result<Self, Outcome> {
        let node = place.held.here().clone();
        if node.latency.is_full(lb.config.max_in_flight) {
            return Err(Outcome::Busy);
        }
        let latest = began + lb.config.try_deadline;
        let until = terms.deadline.map_or(latest, |deadline| deadline.min(latest));
        let way = match node.link().call(Request::Get(key), terms.tell_times, until, began) {
            Some(awaited) => Way::Session(awaited),
            None => Way::other(&node, key.to_owned(), terms.tell_times, until, began),
        };
        node.latency.begin();
        lb.balance.sent(key, place.id);
        Ok(Self {
            lb: lb.clone(),
            node,
            id: place.id,
            key: key.to_owned(),
            began,
            until,
            is_ours: until == latest,
            tell_times: terms.tell_times,
            again: false,
            hit: None,
            way,
        })
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn lb(&self) -> &Arc<Lb> {
        &self.lb
    }

    pub(super) fn key(&self) -> Key<'_> {
        self.key.as_key()
    }

    /// When it was sent.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LinkError>> {
        loop {
            let line = match &mut self.way {
                Way::Session(awaited) => ready!(Pin::new(awaited).poll(cx)),
                Way::Other(waiting) => ready!(waiting.as_mut().poll(cx)),
            };
            if line != Err(LinkError::Broken) || self.again || self.lb.nodes.load().has_other(&self.node) {
                return Poll::Ready(line);
            }
            // There is nobody else: a session that ended while it was asked is made anew, once.
            self.again = true;
            self.way = Way::other(&self.node, self.key.clone(), self.tell_times, self.until, Instant::now());
        }
    }

    /// What the line says of the request, and of the node.
    fn judge(&mut self, line: Result<Bytes, LinkError>) -> Outcome {
        let (lb, node) = (&self.lb, &self.node);
        let line = match line {
            Ok(line) => line,
            // It is not the node's fault that we ask it too much.
            Err(LinkError::Busy) => return Outcome::Busy,
            Err(LinkError::Late) if !self.is_ours => return Outcome::TooLate,
            Err(error) => {
                lb.failed(node, &error.to_string());
                return if error.was_not_sent() { Outcome::NotSent } else { Outcome::Failed };
            }
        };
        let ended = Instant::now();
        let now = lb.ms(ended);
        let status = match ReplyView::parse(&line) {
            Ok(view) => {
                self.hit = view.cache_hit;
                view.status
            }
            Err(error) => {
                node.heard(now);
                lb.failed(node, &error.to_string());
                return Outcome::Failed;
            }
        };
        node.answered(ended - self.began, self.hit == Some(true), now);
        let reply = Reply::relayed(status, line);
        if status == Status::OriginFailure {
            node.is_blind(now);
            return Outcome::Blind(reply, node.identity);
        }
        node.served(now);
        match status {
            Status::Overloaded => {
                node.latency.penalise(now);
                Outcome::Soft(reply)
            }
            _ => Outcome::Reply(reply, self.hit == Some(false)),
        }
    }
}

impl Way {
    fn other(node: &Held, key: KeyBuf, tell_times: bool, until: Instant, now: Instant) -> Self {
        let node = node.clone();
        Way::Other(Box::pin(async move {
            node.link().ask_once(Request::Get(key.as_key()), tell_times, until, now).await
        }))
    }
}

impl Future for Asked {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let line = ready!(self.poll_line(cx));
        Poll::Ready(self.judge(line))
    }
}

impl Drop for Asked {
    /// It has ended, whichever way: answered, failed, or given up.
    fn drop(&mut self) {
        self.node.latency.end();
        self.lb.balance.ended(self.key.as_key(), self.id, self.hit);
    }
}
