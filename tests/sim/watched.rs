//! A role with a ledger of its requests and replies; a proxy may be made to reply wrongly.

use std::sync::Arc;

use bytes::Bytes;
use dproxy::handler::{Answer, Ask, Handler};
use dproxy::proxy::LEFT_ALONE;
use dproxy::trace;
use dproxy::wire::{Content, Data, Reply, ReplyView, Request, Status};
use tokio::time::sleep;

use crate::cluster::{FETCH, Lack};
use crate::world::{Trouble, World};

/// A role and its ledger.
pub(crate) struct Watched<H> {
    inner: Arc<H>,
    host: String,
    world: Arc<World>,
}

/// Counts a request that waits.
struct UnderWay(String, Arc<World>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.1.ledger.change(&self.0, |life| life.under_way -= 1);
    }
}

impl<H: Handler> Watched<H> {
    /// A role that starts on a host now.
    pub(crate) fn new(inner: Arc<H>, host: &str, world: &Arc<World>) -> Arc<Self> {
        world.ledger.began(host);
        Arc::new(Self { inner, host: host.to_owned(), world: world.clone() })
    }

    fn answered(world: &World, host: &str, trouble: Option<Trouble>, reply: Reply) -> Reply {
        let is_blamed =
            matches!(&reply.content, Content::Own { data: Data::Text(text), .. } if text == LEFT_ALONE);
        assert!(!is_blamed || world.plan.calm.is_none(), "{host} blames the origin, which is well");
        judge_blame(world, host, trouble, &reply);
        world.ledger.answered(host, reply.status, trouble.is_some() || blames_document(&reply));
        reply
    }
}

/// The reply of an origin that checks nothing, as those that others write: some of the broken documents are no JSON.
fn unchecked(host: &str, request: Request<'_>) -> Option<Reply> {
    const BROKEN: &[u8] = br#"{"status":"OK","data":{"price":NaN}}"#;
    match request {
        Request::Get(key) if host == "origin" && matches!(key.as_str(), "broken/1" | "broken/3") => {
            Some(Reply::relayed(Status::Ok, Bytes::from_static(BROKEN)))
        }
        _ => None,
    }
}

/// Where nothing fails but documents, a proxy blames nothing else. A late one may also have been the only one under way.
fn judge_blame(world: &World, host: &str, trouble: Option<Trouble>, reply: &Reply) {
    let (Some(trouble), Content::Own { data: Data::Text(told), blames_document, .. }) =
        (trouble, &reply.content)
    else {
        return;
    };
    if world.plan.calm != Some(Lack::Downstream) || reply.status != Status::OriginFailure {
        return;
    }
    match trouble {
        Trouble::Broken | Trouble::Large => assert!(blames_document, "{host} blames the origin: {reply:?}"),
        // Not those whose place was given to others before their time was over.
        Trouble::Slow if !told.contains("in time") => {}
        Trouble::Slow => world.ledger.change(host, |life| match blames_document {
            true => life.late_documents += 1,
            false => life.late_origin += 1,
        }),
    }
}

/// Whether a proxy blamed the document in what a balancer relays. A cut link may make a sound document look late.
fn blames_document(reply: &Reply) -> bool {
    match &reply.content {
        Content::Relayed(line) => ReplyView::parse(line).is_ok_and(|view| view.blames_document),
        Content::Own { .. } => false,
    }
}

impl<H: Handler> Handler for Watched<H> {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        let (world, host) = (self.world.clone(), self.host.clone());
        let spoilt = world.spoilt(&host).and_then(|spoilt| spoilt.reply(ask.request));
        let instead = spoilt.or_else(|| unchecked(&host, ask.request));
        let from = turmoil::reverse_lookup(ask.from);
        let from = from.as_deref().unwrap_or("somebody");
        let trouble;
        let answer = match ask.request {
            Request::Get(key) => {
                trouble = Trouble::of(key.as_str());
                world.note(format_args!("{from} asks {host} for {key}"));
                match host.starts_with("lb") {
                    true => {
                        let id = world.ledger.came_to_balancer(&host, ask.trace);
                        trace::answer(&self.inner, Ask { trace: Some(&id), ..ask }, None)
                    }
                    false if host == "origin" && trouble == Some(Trouble::Slow) => {
                        let answer = self.inner.answer(ask);
                        Answer::later(async move {
                            sleep(FETCH * 2).await;
                            answer.reply().await
                        })
                    }
                    false => {
                        world.ledger.came_to_proxy(&world, &host, from, ask.trace);
                        match instead {
                            // The role itself does not see the request.
                            Some(reply) => return Answer::Now(reply),
                            None => self.inner.answer(ask),
                        }
                    }
                }
            }
            _ => return instead.map_or_else(|| self.inner.answer(ask), Answer::Now),
        };
        match answer {
            Answer::Now(reply) => Answer::Now(Self::answered(&world, &host, trouble, reply)),
            Answer::Later(reply) => {
                world.ledger.change(&host, |life| life.under_way += 1);
                let under_way = UnderWay(host, world);
                Answer::later(async move {
                    let reply = reply.await;
                    Self::answered(&under_way.1, &under_way.0, trouble, reply)
                })
            }
        }
    }

    fn error(&self, status: Status, text: String) -> Reply {
        self.inner.error(status, text)
    }
}
