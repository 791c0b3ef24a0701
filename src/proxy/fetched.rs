//! The outcome of a fetch: a document, its absence, or a failure and whose it is.

use std::borrow::Cow;
use std::time::Duration;

use crate::blame::Fault;
use crate::wire::{Document, ReplyView, Status};

/// The outcome of a fetch.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// The document.
    Document(Document, Past),
    /// The origin said NOT_FOUND.
    Missing(Past),
    /// Neither a document nor NOT_FOUND.
    Failed(Failure),
}

/// What a reply says of the time before it: another proxy may have held the document.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Past {
    /// How long ago it was fetched, in whole seconds; zero where the reply does not say.
    pub(super) age: Duration,
    /// Whether it is past its time to live there.
    pub(super) is_stale: bool,
}

impl Past {
    pub(super) fn of(reply: &ReplyView<'_>) -> Self {
        Self { age: Duration::from_secs(reply.age.unwrap_or_default().into()), is_stale: reply.stale }
    }
}

/// Why a fetch brought no document.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Whose fault it is.
    pub(super) fault: Fault,
    /// Whether the origin was asked: a key that had no turn has not failed.
    pub(super) was_asked: bool,
    /// The text for the client.
    pub(super) why: Cow<'static, str>,
}

impl Failure {
    /// The origin was asked for the document.
    pub(super) fn new(fault: Fault, why: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, was_asked: true, why: why.into() }
    }

    /// The origin was not asked.
    pub(super) fn unasked(fault: Fault, why: impl Into<Cow<'static, str>>) -> Self {
        Self { was_asked: false, ..Self::new(fault, why) }
    }

    /// The status for the client.
    pub(super) fn status(&self) -> Status {
        match self.fault {
            Fault::Ours => Status::Overloaded,
            Fault::Document | Fault::Source | Fault::Full => Status::OriginFailure,
        }
    }
}
