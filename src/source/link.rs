//! An origin, or another proxy, that speaks the protocol of lines.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::{
    Answering, Brought, Kind, Known, Source, Telling, Unmet, Untold, Unwatched, Wanted, Watching, answer,
};
use crate::blame::Fault;
use crate::net::{Link, LinkError, LinkLimits};
use crate::wire::{Acked, Batch, Changed, ReplyView, Request, Status, Tell, Watch, meta};

/// The text for a line that is not a reply: most often the origin is an HTTP server.
const NOT_A_REPLY: &str =
    "the origin answered with something that is no reply of dproxy's protocol; HTTP is none";
/// The longest sentence of an origin that a client gets, in bytes as JSON.
const LONGEST_SENTENCE: usize = 300;
/// A connection on which no word of changes comes for nine tenths of this time is made anew. Longer than any WATCH waits.
const WATCH_PATIENCE: Duration = Duration::from_secs(2);
/// The text for a document that its origin cannot read, or that cannot be read here.
const NO_SOUND_DOCUMENT: &str = "the origin has no sound document under this key";

/// A node of ours as a source.
pub struct LinkSource {
    link: Link,
    /// A connection of its own for the word of changes, which must not wait behind documents.
    watching: Link,
    /// The largest document in bytes.
    max_document: usize,
}

impl LinkSource {
    /// The node at the other end of `link`.
    pub fn new(link: Link, max_document: usize) -> Self {
        let watching = Link::new(
            link.peer().clone(),
            LinkLimits {
                sessions: 1,
                patience: WATCH_PATIENCE,
                tls: link.tls().cloned(),
                ..LinkLimits::default()
            },
        );
        Self { link, watching, max_document }
    }

    /// What the node's line stands for.
    fn read(&self, wanted: Wanted<'_>, line: &[u8]) -> Result<Brought, Unmet> {
        let reply = ReplyView::parse(line).map_err(|error| {
            debug!(origin = %self, %error, "the origin's reply is not one");
            let fault = Fault::of_line(error);
            let why = if fault == Fault::Source { NOT_A_REPLY } else { NO_SOUND_DOCUMENT };
            Unmet::unfit(fault, why)
        })?;
        if reply.status == Status::NotModified && wanted.validator.is_some() {
            return Ok(Brought::NotModified(Known::of(&reply)));
        }
        let Some(fault) = Fault::of_reply(&reply) else {
            let known = Known::of(&reply);
            return match (reply.status, reply.document(wanted.key.as_str(), self.max_document)) {
                (Status::NotFound, _) => Ok(Brought::Missing(known)),
                (_, Ok(document)) => Ok(Brought::Document(document, known)),
                (_, Err(_)) => {
                    Err(Unmet::Unfit { fault: Fault::Document, why: self.too_large(), wait: None })
                }
            };
        };
        let (is_its_own, why) = match reply.status {
            Status::BadDocument => (true, NO_SOUND_DOCUMENT),
            Status::Overloaded => (true, "the origin is overloaded"),
            Status::OriginFailure => (true, "the origin cannot read its documents"),
            _ => (false, "the origin answered with another status"),
        };
        let sentence = sentence(&reply).filter(|_| is_its_own).map_or(Cow::Borrowed(why), Cow::Owned);
        Err(Unmet::Unfit { fault, why: sentence, wait: None })
    }

    fn too_large(&self) -> Cow<'static, str> {
        answer::too_large(self.max_document)
    }

    /// The text for the client when the link brought no reply.
    fn text_of(&self, error: LinkError) -> Cow<'static, str> {
        match error {
            LinkError::TooLong => self.too_large(),
            LinkError::NotText => NO_SOUND_DOCUMENT.into(),
            LinkError::Garbage => NOT_A_REPLY.into(),
            LinkError::Tls(fault) => format!("no TLS with the origin: {fault}").into(),
            error => answer::text_of(error).into(),
        }
    }
}

impl fmt::Display for LinkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link.peer().fmt(f)
    }
}

impl Source for LinkSource {
    fn ask<'a>(&'a self, wanted: Wanted<'a>) -> Answering<'a> {
        Box::pin(async move {
            let request = Request::Get(wanted.key);
            let held = wanted.validator.and_then(|validator| meta::token(validator.as_bytes()));
            let tell = Tell { times: true, meta: true, held: held.as_deref() };
            let asked = match wanted.is_again {
                true => self.link.ask_once(request, tell, wanted.deadline, Instant::now()).await,
                false => self.link.ask_twice(request, tell, wanted.deadline).await,
            };
            match asked {
                Ok(line) => self.read(wanted, &line),
                Err(error) => Err(Unmet::NoAnswer(error, self.text_of(error))),
            }
        })
    }

    fn watch(&self, watch: Watch, deadline: Instant) -> Option<Watching<'_>> {
        Some(Box::pin(self.ask_for_changes(watch, deadline)))
    }

    fn tell<'a>(&'a self, changed: Changed<'a>, deadline: Instant) -> Option<Telling<'a>> {
        Some(Box::pin(self.tell_of_change(changed, deadline)))
    }

    fn kind(&self) -> Kind {
        Kind::Node
    }
}

impl LinkSource {
    async fn ask_for_changes(&self, watch: Watch, deadline: Instant) -> Result<Batch, Unwatched> {
        const GARBAGE: Unwatched = Unwatched::Failed(LinkError::Garbage);
        let line =
            self.watching.ask_once(Request::Watch(watch), Tell::default(), deadline, Instant::now()).await;
        let line = line.map_err(Unwatched::Failed)?;
        let reply = ReplyView::parse(&line).map_err(|_| GARBAGE)?;
        match reply.status {
            Status::Ok => serde_json::from_str(reply.data).map_err(|_| GARBAGE),
            Status::WrongMethod | Status::Forbidden => Err(Unwatched::NotTold),
            Status::Overloaded => Err(Unwatched::Failed(LinkError::Busy)),
            // Such as that of a node which was late with its answer to the offer of a session: WATCH is none of plain lines.
            _ => Err(GARBAGE),
        }
    }

    async fn tell_of_change(&self, changed: Changed<'_>, deadline: Instant) -> Result<Acked, Untold> {
        const GARBAGE: Untold = Untold::Failed(LinkError::Garbage);
        let line = self.link.ask_apart(Request::Changed(changed), deadline).await.map_err(Untold::Failed)?;
        let reply = ReplyView::parse(&line).map_err(|_| GARBAGE)?;
        match reply.status {
            Status::Ok => serde_json::from_str(reply.data).map_err(|_| GARBAGE),
            Status::WrongMethod => Err(self.purge_softly(changed, deadline).await?),
            status => Err(Untold::Refused(status)),
        }
    }

    /// A node that does not know CHANGED may be an older proxy, which would give out what it holds as fresh. An origin holds
    /// nothing, and has no PURGE.
    async fn purge_softly(&self, changed: Changed<'_>, deadline: Instant) -> Result<Untold, Untold> {
        for pattern in changed.patterns() {
            let request = Request::Purge { pattern, soft: true };
            let line = self.link.ask_apart(request, deadline).await.map_err(Untold::Failed)?;
            match ReplyView::parse(&line).map_err(|_| Untold::Failed(LinkError::Garbage))?.status {
                Status::Ok => {}
                Status::WrongMethod => break,
                status => return Err(Untold::Refused(status)),
            }
        }
        Ok(Untold::TellsNobody)
    }
}

/// The origin's own sentence for people; a longer text is no sentence.
fn sentence(reply: &ReplyView<'_>) -> Option<String> {
    let is_short = reply.data.len() <= LONGEST_SENTENCE;
    let text: Option<String> = is_short.then(|| serde_json::from_str(reply.data).ok()).flatten();
    text.filter(|text| !text.trim().is_empty())
}
