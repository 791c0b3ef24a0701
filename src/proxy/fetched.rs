//! The outcome of a fetch: a document, its absence, or a failure and whose it is.

use std::borrow::Cow;
use std::time::Duration;

use crate::blame::Fault;
use crate::source::Known;
use crate::wire::{Document, Status};

/// The outcome of a fetch.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// The document.
    Document(Document, Known),
    /// The document is the one that is held.
    NotModified(Known),
    /// The origin said NOT_FOUND.
    Missing(Known),
    /// Neither a document nor NOT_FOUND.
    Failed(Failure),
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
    /// For how long the origin asks for no request at all.
    pub(super) wait: Option<Duration>,
}

impl Failure {
    /// The origin was asked for the document.
    pub(super) fn new(fault: Fault, why: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, was_asked: true, why: why.into(), wait: None }
    }

    /// The origin was not asked.
    pub(super) fn unasked(fault: Fault, why: impl Into<Cow<'static, str>>) -> Self {
        Self { was_asked: false, ..Self::new(fault, why) }
    }

    /// The status for the client.
    pub(super) fn status(&self) -> Status {
        match self.fault {
            Fault::Ours => Status::Overloaded,
            Fault::Document | Fault::Doubt | Fault::Source | Fault::Full => Status::OriginFailure,
        }
    }
}
