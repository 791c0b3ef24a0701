//! The outcome of a fetch: a document, its absence, or a failure and whose it is.

use std::borrow::Cow;

use crate::blame::Fault;
use crate::wire::{Document, Status};

/// The outcome of a fetch.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// The document.
    Document(Document),
    /// The origin said NOT_FOUND.
    Missing,
    /// Neither a document nor NOT_FOUND.
    Failed(Failure),
}

/// Why a fetch brought no document.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Whose fault it is.
    pub(super) fault: Fault,
    /// The text for the client.
    pub(super) why: Cow<'static, str>,
}

impl Failure {
    pub(super) fn new(fault: Fault, why: impl Into<Cow<'static, str>>) -> Self {
        Self { fault, why: why.into() }
    }

    /// The status for the client.
    pub(super) fn status(&self) -> Status {
        match self.fault {
            Fault::Ours => Status::Overloaded,
            Fault::Document | Fault::Source | Fault::Full => Status::OriginFailure,
        }
    }
}
