//! One attempt: a request at one node, from when it is sent until its reply has come or nobody waits for it any more.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::nodes::{Held, Member};
use super::tries::Outcome;
use super::upstreams::Upstreams;
use crate::blame::Fault;
use crate::net::LinkError;
use crate::net::link::Awaited;
use crate::wire::{Key, KeyBuf, Reply, ReplyView, Request, Status, Tell};

/// A request that was sent to a node; a future of its outcome.
pub(super) struct Attempt {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) node: Held,
    /// The id of the node for the strategy.
    pub(super) id: u64,
    pub(super) key: KeyBuf,
    /// When it was sent.
    pub(super) began: Instant,
    deadline: Instant,
    /// Whether `deadline` is the balancer's own, so that missing it is the node's failure.
    is_ours: bool,
    tell_times: bool,
    /// Whether it was sent again, on another session, already.
    again: bool,
    /// Whether the document was cached at the node, if the reply says so.
    hit: Option<bool>,
    way: Way,
}

/// What the client asks for beside the document.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// The client's deadline, if it named one.
    pub(super) deadline: Option<Instant>,
    /// Whether the reply shall contain the times of the document.
    pub(super) tell_times: bool,
}

/// How the reply comes.
enum Way {
    /// On an open session: nearly always.
    Session(Awaited),
    /// After a wait for a connection, or for a place on the session.
    Other(Pin<Box<dyn Future<Output = Result<Bytes, LinkError>> + Send>>),
}

impl Attempt {
    /// Sends the request now. `Busy` when the node has its limit of requests in flight.
    pub(super) fn new(
        upstreams: &Arc<Upstreams>,
        member: &Member,
        key: Key<'_>,
        began: Instant,
        terms: Terms,
    ) -> Result<Self, Outcome> {
        let node = member.held.here().clone();
        if node.latency.is_full(upstreams.max_in_flight) {
            return Err(Outcome::Busy);
        }
        let latest = began + upstreams.try_deadline;
        let deadline = terms.deadline.map_or(latest, |deadline| deadline.min(latest));
        let way = match node.link().call(Request::Get(key), Tell::times(terms.tell_times), deadline, began) {
            Some(awaited) => Way::Session(awaited),
            None => Way::other(&node, key.to_owned(), terms.tell_times, deadline, began),
        };
        node.latency.begin();
        upstreams.choice.balance().sent(key, member.id, &**node);
        Ok(Self {
            upstreams: upstreams.clone(),
            node,
            id: member.id,
            key: key.to_owned(),
            began,
            deadline,
            is_ours: deadline == latest,
            tell_times: terms.tell_times,
            again: false,
            hit: None,
            way,
        })
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LinkError>> {
        loop {
            let line = match &mut self.way {
                Way::Session(awaited) => ready!(Pin::new(awaited).poll(cx)),
                Way::Other(waiting) => ready!(waiting.as_mut().poll(cx)),
            };
            let has_other = || self.upstreams.members.nodes().has_other(&self.node);
            if line != Err(LinkError::Broken) || self.again || has_other() {
                return Poll::Ready(line);
            }
            // No other node could take over from a session that broke: this one gets the request again, once.
            self.again = true;
            self.way =
                Way::other(&self.node, self.key.clone(), self.tell_times, self.deadline, Instant::now());
        }
    }

    /// The outcome of a reply line, or of its absence, and what that says of the node.
    fn judge(&mut self, line: Result<Bytes, LinkError>) -> Outcome {
        let line = match line {
            Ok(line) => line,
            Err(error) => return self.judge_error(error),
        };
        let (members, node) = (&self.upstreams.members, &**self.node);
        let ended = Instant::now();
        let now = self.upstreams.clock.at(ended);
        let (status, fault) = match ReplyView::parse(&line) {
            Ok(view) => {
                self.hit = view.cache_hit;
                (view.status, Fault::of_reply(&view))
            }
            Err(error) => {
                node.heard(now);
                let fault = Fault::of_line(error);
                if fault == Fault::Source {
                    members.request_failed(node, &error.to_string());
                    return Outcome::Failed;
                }
                node.answered(ended - self.began, false, now);
                return self.unsound(&error);
            }
        };
        node.answered(ended - self.began, self.hit == Some(true), now);
        let reply = Reply::relayed(status, line);
        if fault == Some(Fault::Source) {
            node.is_blind(now);
            return Outcome::Blind(reply, node.identity);
        }
        node.served(now);
        match fault {
            Some(Fault::Full) => {
                node.latency.penalise(now);
                Outcome::Soft(reply)
            }
            // A document that fails at one node fails at all of them. It says nothing of nodes that did not get so far.
            fault => Outcome::Reply(reply, fault.is_none() && self.hit == Some(false)),
        }
    }

    fn judge_error(&self, error: LinkError) -> Outcome {
        if error == LinkError::Late && !self.is_ours {
            return Outcome::TooLate;
        }
        let answered_others = self.node.last_reply() > self.upstreams.clock.at(self.began);
        match Fault::of_error(error, answered_others) {
            Fault::Ours | Fault::Full => Outcome::Busy,
            Fault::Document if error == LinkError::Late => Outcome::Failed,
            Fault::Document if error == LinkError::TooLong => {
                let limit = self.upstreams.max_reply;
                let why =
                    format!("the reply of the proxies is longer than the {limit} bytes of --max-document");
                Outcome::TooLong(Reply::text(Status::ProxyUnreachable, why).blaming_document(true))
            }
            Fault::Document | Fault::Doubt => self.unsound(&error),
            Fault::Source => {
                self.upstreams.members.request_failed(&self.node, &error.to_string());
                if error.was_not_sent() { Outcome::NotSent } else { Outcome::Failed }
            }
        }
    }

    /// The document is at fault; the node is, too, if another one fetches a sound one.
    fn unsound(&self, error: &impl fmt::Display) -> Outcome {
        let why = format!("the proxies have no sound document under this key: {error}");
        Outcome::Unfit(Reply::text(Status::OriginFailure, why).blaming_document(true), self.node.identity)
    }
}

impl Way {
    fn other(node: &Held, key: KeyBuf, tell_times: bool, deadline: Instant, now: Instant) -> Self {
        let node = node.clone();
        Way::Other(Box::pin(async move {
            node.link().ask_once(Request::Get(key.as_key()), Tell::times(tell_times), deadline, now).await
        }))
    }
}

impl Future for Attempt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let line = ready!(self.poll_line(cx));
        Poll::Ready(self.judge(line))
    }
}

impl Drop for Attempt {
    /// It has ended: answered, failed, or given up.
    fn drop(&mut self) {
        self.node.latency.end();
        let (key, node) = (self.key.as_key(), &**self.node);
        self.upstreams.choice.balance().ended(key, self.id, node, self.hit);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lb::balance::Load;
    use crate::lb::follow::unresolved;
    use crate::lb::{LbConfig, Members};

    /// An attempt at the first of two nodes, which go down at the first failure. The client waits for `deadline`.
    fn attempt(deadline: Duration) -> Attempt {
        let second = Duration::from_secs(1);
        let proxies = ["10.0.0.1:1", "10.0.0.2:1"].map(|peer| peer.parse().unwrap());
        let members = Members::new(proxies.into());
        let config = LbConfig {
            members,
            max_failures: 1,
            try_deadline: second,
            max_in_flight: 1,
            ..LbConfig::default()
        };
        let upstreams = Arc::new(Upstreams::new(&config));
        upstreams.members.replace(&unresolved(&config.members.first().unwrap()));
        let nodes = upstreams.members.nodes_kept();
        let (began, key) = (Instant::now(), Key::parse("article/1").unwrap());
        let terms = Terms { deadline: Some(began + deadline), tell_times: false };
        let Ok(attempt) = Attempt::new(&upstreams, &nodes.0[0], key, began, terms) else { panic!("busy") };
        let again = Attempt::new(&upstreams, &nodes.0[0], key, began, terms);
        assert!(matches!(again, Err(Outcome::Busy)), "one request in flight is the limit");
        attempt
    }

    /// A word for the outcome of an attempt, and whether it counts as a failure of the node.
    fn judged(deadline: Duration, line: Result<&'static str, LinkError>) -> (String, bool) {
        let mut attempt = attempt(deadline);
        let word = match attempt.judge(line.map(|line| Bytes::from_static(line.as_bytes()))) {
            Outcome::Reply(reply, fetched) => format!("{} fetched: {fetched}", reply.status),
            Outcome::Soft(reply) => format!("soft {}", reply.status),
            Outcome::Blind(reply, identity) => {
                assert_eq!(identity, attempt.node.identity);
                format!("blind {}", reply.status)
            }
            Outcome::Unfit(reply, identity) => {
                assert_eq!(identity, attempt.node.identity);
                format!("unfit {}", reply.status)
            }
            Outcome::TooLong(reply) => format!("too long {}", reply.status),
            Outcome::NotSent => "not sent".to_owned(),
            Outcome::Busy => "busy".to_owned(),
            Outcome::Failed => "failed".to_owned(),
            Outcome::TooLate => "too late".to_owned(),
            Outcome::Nobody | Outcome::Unpaid => unreachable!("it was sent"),
        };
        let is_down = !attempt.node.is_healthy();
        assert_eq!(attempt.node.counts.errors.get(), u64::from(is_down));
        (word, is_down)
    }

    #[test]
    fn sound_replies_are_no_failure_of_the_node() {
        let long = Duration::from_secs(9);
        for (line, word) in [
            (r#"{"status":"OK","data":1,"cache_hit":true,"node":1}"#, "OK fetched: false"),
            (r#"{"status":"OK","data":1,"cache_hit":false,"node":1}"#, "OK fetched: true"),
            (r#"{"status":"NOT_FOUND","data":null}"#, "NOT_FOUND fetched: false"),
            // A node that blames the document has not fetched it: that does not make other nodes blind.
            (
                r#"{"status":"ORIGIN_FAILURE","data":null,"cache_hit":false,"node":1,"fault":"document"}"#,
                "ORIGIN_FAILURE fetched: false",
            ),
            (r#"{"status":"OVERLOADED","data":null}"#, "soft OVERLOADED"),
            (r#"{"status":"ORIGIN_FAILURE","data":null}"#, "blind ORIGIN_FAILURE"),
            (
                r#"{"status":"ORIGIN_FAILURE","data":null,"fault":"document"}"#,
                "ORIGIN_FAILURE fetched: false",
            ),
            (r#"{"status":"BAD_DOCUMENT","data":null}"#, "BAD_DOCUMENT fetched: false"),
            (r#"{"status":"OK","data":NaN}"#, "unfit ORIGIN_FAILURE"),
            (r#"{"status":"OK"}"#, "unfit ORIGIN_FAILURE"),
            (r#"{"status":"TEAPOT","data":1}"#, "unfit ORIGIN_FAILURE"),
        ] {
            assert_eq!(judged(long, Ok(line)), (word.to_owned(), false), "{line}");
        }
    }

    #[test]
    fn unsound_replies_and_lost_connections_are() {
        let long = Duration::from_secs(9);
        for (line, word) in [
            (Ok("HTTP/1.1 200 OK"), "failed"),
            (Ok(r#"{"error":1}"#), "failed"),
            (Err(LinkError::Broken), "failed"),
            (Err(LinkError::Late), "failed"),
            (Err(LinkError::Refused), "not sent"),
        ] {
            assert_eq!(judged(long, line), (word.to_owned(), true), "{line:?}");
        }
    }

    #[test]
    fn limits_and_deadlines_of_others_are_no_failure_of_the_node() {
        for ours in [LinkError::Busy, LinkError::Exhausted] {
            assert_eq!(judged(Duration::from_secs(9), Err(ours)), ("busy".to_owned(), false));
        }
        let soon = Duration::from_millis(500);
        assert_eq!(judged(soon, Err(LinkError::Late)), ("too late".to_owned(), false));
        for (error, word) in
            [(LinkError::TooLong, "too long PROXY_UNREACHABLE"), (LinkError::NotText, "unfit ORIGIN_FAILURE")]
        {
            let judged = judged(Duration::from_secs(9), Err(error));
            assert_eq!(judged, (word.to_owned(), false), "{error:?}");
        }
    }

    #[test]
    fn an_attempt_is_in_flight_until_it_is_dropped() {
        let attempt = attempt(Duration::from_secs(1));
        let node = attempt.node.clone();
        assert_eq!(node.in_flight(), 1);
        drop(attempt);
        assert_eq!(node.in_flight(), 0);
    }
}
