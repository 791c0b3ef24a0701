//! CHANGED at a proxy: it is passed on to the origin, which tells the other proxies, and done here after that.
//!
//! In this order, as a fetch in between may bring what an upstream with a cache held before it knew. In front of a source that
//! tells nobody, such as an API, only this proxy knows of the change, and the reply says so.

use std::sync::Arc;

use tokio::time::Instant;

use super::Proxy;
use crate::handler::Answer;
use crate::source::Untold;
use crate::wire::{Acked, Changed, Reply, Status};

/// The refusals of CHANGED whose cause is at the origin. Documents are fetched anew here all the same.
const FORBIDDEN_THERE: &str = "the origin takes CHANGED from its --admin-from alone, and this proxy is not of them: \
    only this proxy knows of the change";
const NOT_REACHED: &str = "the origin did not take CHANGED: only this proxy knows of the change; ask again";
const FULL_THERE: &str = "the origin is overloaded: only this proxy knows of the change; ask again";
/// The refusal whose cause is here.
const FULL: &str = "too many purges wait until the memory of those before them is freed; ask again";

impl Proxy {
    /// Documents have changed. A client that leaves does not leave it half done.
    pub(super) fn told(self: &Arc<Self>, changed: Changed<'_>, deadline: Option<Instant>) -> Answer {
        let most = Instant::now() + changed.patience();
        let deadline = deadline.map_or(most, |deadline| deadline.min(most));
        let (proxy, words) = (self.clone(), changed.to_string());
        Answer::apart(async move {
            match Changed::parse(&words) {
                Ok(changed) => proxy.pass_on(changed, deadline).await,
                Err(error) => proxy.failed(Status::BadRequest, error.to_string()),
            }
        })
    }

    async fn pass_on(self: Arc<Self>, changed: Changed<'_>, deadline: Instant) -> Reply {
        let passed_on = match self.upstream.source().tell(changed, deadline) {
            Some(telling) => telling.await,
            None => Err(Untold::TellsNobody),
        };
        let outdated = changed.patterns().filter(|pattern| self.outdate(*pattern)).count();
        if outdated < changed.patterns().count() {
            return self.failed(Status::Overloaded, FULL);
        }
        match passed_on {
            Ok(acked) => Reply::json(&acked),
            Err(Untold::TellsNobody) => Reply::json(&Acked::ONLY_HERE),
            Err(Untold::Refused(Status::Forbidden)) => self.failed(Status::Forbidden, FORBIDDEN_THERE),
            Err(Untold::Refused(Status::Overloaded)) => self.failed(Status::Overloaded, FULL_THERE),
            Err(Untold::Refused(_) | Untold::Failed(_)) => self.failed(Status::OriginFailure, NOT_REACHED),
        }
    }
}
