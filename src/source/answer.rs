//! What a source says of a key: a document, its absence, or why neither came.

use std::borrow::Cow;
use std::time::Duration;

use super::http::tags;
use super::{Known, Policy, Validator};
use crate::blame::Fault;
use crate::net::LinkError;
use crate::wire::escape::unescaped;
use crate::wire::{Document, Meta, Position, ReplyView, Status};

/// What a source brought for a key.
#[derive(Clone, Debug)]
pub enum Brought {
    /// The document.
    Document(Document, Known),
    /// The document is still the one of the validator.
    NotModified(Known),
    /// The source says that there is no such document.
    Missing(Known),
}

/// What an answer says of the time before it: the source may have held the document in a cache.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Past {
    /// How long ago it was fetched, in whole seconds; zero where the answer does not say.
    pub age: Duration,
    /// Whether it is past its time to live there.
    pub is_stale: bool,
    /// How far the source's log of changes was when it began to read, if it told that.
    pub position: Option<Position>,
}

impl Past {
    /// What a reply of another node says.
    pub(super) fn of(reply: &ReplyView<'_>) -> Self {
        Self {
            age: Duration::from_secs(reply.age.unwrap_or_default().into()),
            is_stale: reply.stale,
            position: reply.position,
        }
    }
}

/// Why a document is not stored whose node says so.
const NOT_STORED_THERE: &str = "the source of its origin forbids it";

impl Known {
    /// What a reply of another node says.
    pub(super) fn of(reply: &ReplyView<'_>) -> Self {
        let says_more = reply.meta != Meta::default();
        Self {
            past: Past::of(reply),
            policy: says_more.then(|| Box::new(policy(&reply.meta, reply.stale))),
            not_stored: reply.terms.not_stored.then_some(NOT_STORED_THERE),
        }
    }
}

/// How another node says that a document may be kept: as long as itself.
fn policy(meta: &Meta<'_>, is_stale: bool) -> Policy<'static> {
    // As long as a source can say.
    const LONGEST: u64 = 1 << 31;
    let seconds = |ms: u64| (ms / 1000).min(LONGEST) as u32;
    Policy {
        lifetime: meta.ttl_ms.map(Duration::from_millis),
        stale_while_revalidate: meta.swr_ms.map(seconds),
        stale_if_error: meta.sie_ms.map(seconds),
        // It was fetched just now, and has no time at all.
        is_revalidated: meta.ttl_ms == Some(0) && !is_stale,
        is_not_stored: false,
        validator: meta.etag.map(|token| Validator::Etag(unescaped(token).into())),
        tags: tags::distinct(meta.tags.unwrap_or_default().split(' ')).into(),
    }
}

/// Why a source brought nothing. The texts are for the client: they name no address and no secret.
#[derive(Clone, Debug)]
pub enum Unmet {
    /// No answer came. Whose fault that is depends on what else the source answered meanwhile: [`Fault::of_error`].
    NoAnswer(LinkError, Cow<'static, str>),
    /// An answer came, and it is neither a document nor the word that there is none.
    Unfit {
        /// Whose fault that is.
        fault: Fault,
        /// The text for the client.
        why: Cow<'static, str>,
        /// For how long the source asks not to be asked for any document, if it does.
        wait: Option<Duration>,
    },
}

impl Unmet {
    /// No answer, with the usual text.
    pub(super) fn of(error: LinkError) -> Self {
        Unmet::NoAnswer(error, text_of(error).into())
    }

    /// An answer that is of no use.
    pub(super) fn unfit(fault: Fault, why: &'static str) -> Self {
        Unmet::Unfit { fault, why: why.into(), wait: None }
    }
}

/// Why a source told of no changes.
#[derive(Clone, Copy, Debug)]
pub enum Unwatched {
    /// It does not tell of changes.
    NotTold,
    /// It did not answer.
    Failed(LinkError),
}

/// The text for a document above the limit.
pub(super) fn too_large(max_document: usize) -> Cow<'static, str> {
    format!("the document is larger than {max_document} bytes, the --max-document of this proxy").into()
}

/// The text for an error that says nothing of the document.
pub(super) fn text_of(error: LinkError) -> &'static str {
    match error {
        LinkError::Refused | LinkError::Unresolved => "the origin cannot be reached",
        LinkError::Tls(_) => "there is no TLS with the origin",
        LinkError::Late => "the origin did not answer in time",
        LinkError::Broken => "the origin closed the connection before it had answered",
        LinkError::Busy => "too many requests wait for the origin",
        LinkError::Exhausted => "this proxy has no ports, descriptors or memory left for a connection",
        LinkError::TooLong | LinkError::NotText | LinkError::Garbage => {
            "the origin answered with no document"
        }
    }
}

/// Why a source has not told others of a change.
#[derive(Clone, Copy, Debug)]
pub enum Untold {
    /// It tells nobody of changes.
    TellsNobody,
    /// It refused the word.
    Refused(Status),
    /// It did not answer.
    Failed(LinkError),
}
