//! A miss: joins the fetch of its key or begins one, waits for it, and is answered by its outcome.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::Proxy;
use super::cache::Entry;
use super::fetched::Failure;
use super::flight::Joined;
use super::landing::Landed;
use super::replies::Asked;
use super::upstream::LEFT_ALONE;
use crate::blame::Fault;
use crate::handler::Answer;
use crate::lock::lock;
use crate::trace;
use crate::wire::{Key, KeyBuf, Status, Tell};

impl Proxy {
    /// The cache has no fresh entry: joins or starts a fetch and waits. When it fails `fallback` is served.
    pub(super) fn miss(self: &Arc<Self>, key: Key<'_>, fallback: Option<Entry>, asked: &Asked<'_>) -> Answer {
        // Nothing of a key with other parameters is ever cached, so that a hit need not look.
        if let Some(name) = key.query().and_then(|query| self.parameters.unknown(query)) {
            let why =
                format!("no document has the parameter {name}; --query names those that documents have");
            return Answer::Now(self.failed(Status::BadRequest, why));
        }
        if lock(&self.not_stored).why(key.as_str(), self.now()).is_some() {
            return self.miss_alone(key, asked);
        }
        let mut collapsed = false;
        let joined = match self.flights.join(key) {
            Joined::Following(answer) => {
                self.counters.coalesced.add_one();
                collapsed = true;
                answer
            }
            Joined::Leading(ticket, answer) => {
                if let Some(entry) = self.landed_meanwhile(key) {
                    let landed = Landed::Entry(entry, false);
                    ticket.land(&landed, || ());
                    return Answer::Now(self.settle(key, landed, fallback, false, asked));
                }
                let Some(permit) = self.admit(key, self.now(), fallback.is_some()) else {
                    let failed = Landed::Failed(self.left_alone());
                    ticket.land(&failed, || ());
                    return Answer::Now(self.settle(key, failed, fallback, false, asked));
                };
                tokio::spawn(trace::carried(self.clone().fly(permit, ticket)));
                answer
            }
            Joined::Full => {
                let full = Failure::unasked(Fault::Ours, "too many requests wait for fetches at this proxy");
                return Answer::Now(self.settle(key, Landed::Failed(full), fallback, false, asked));
            }
        };
        let landing = async move { joined.await.ok() };
        self.clone().settle_later(key.to_owned(), landing, asked, fallback, collapsed)
    }

    /// A miss whose document must not be stored: each request has a fetch of its own.
    fn miss_alone(self: &Arc<Self>, key: Key<'_>, asked: &Asked<'_>) -> Answer {
        let Some(permit) = self.admit(key, self.now(), false) else {
            return Answer::Now(self.settle(key, Landed::Failed(self.left_alone()), None, false, asked));
        };
        let (proxy, key) = (self.clone(), key.to_owned());
        let wanted = key.clone();
        let landing = async move { Some(proxy.fetch_alone(permit, wanted).await) };
        self.clone().settle_later(key, landing, asked, None, false)
    }

    /// Waits for a landing. The fetch ends at its own deadline; the client's may come earlier, and ends only this wait.
    fn settle_later(
        self: Arc<Self>,
        key: KeyBuf,
        landing: impl Future<Output = Option<Landed>> + Send + 'static,
        asked: &Asked<'_>,
        fallback: Option<Entry>,
        collapsed: bool,
    ) -> Answer {
        let Asked { deadline, tell } = *asked;
        let held: Option<Box<str>> = tell.held.map(Box::from);
        let (times, meta) = (tell.times, tell.meta);
        Answer::later(async move {
            let landing = async {
                match deadline {
                    None => landing.await,
                    Some(deadline) => timeout_at(deadline, landing).await.ok().flatten(),
                }
            };
            let _step = trace::step("the fetch");
            let landed = landing.await;
            let late = || Failure::new(Fault::Document, "the fetch did not end in time");
            let landed = landed.unwrap_or_else(|| Landed::Failed(late()));
            let tell = Tell { times, meta, held: held.as_deref() };
            self.settle(key.as_key(), landed, fallback, collapsed, &Asked { deadline, tell })
        })
    }

    /// Why the gate lets no fetch through.
    fn left_alone(&self) -> Failure {
        let is_closed = self.upstream.is_closed(self.now());
        is_closed.unwrap_or_else(|| Failure::unasked(Fault::Source, LEFT_ALONE))
    }

    /// The entry of a flight that landed after this request missed the cache and before it began a flight.
    fn landed_meanwhile(&self, key: Key<'_>) -> Option<Entry> {
        let vouched = self.push.vouched();
        self.peek(key).filter(|entry| vouched.is_fresh(entry, self.now()))
    }
}
