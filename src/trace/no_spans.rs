//! `spans` without the Cargo feature `otlp`: every function does nothing.

use std::error::Error;

use crate::handler::Ask;
use crate::wire::{Reply, TraceParent};

/// Never a span.
pub(super) struct Span;

/// Spans are never wanted.
pub(super) const fn are_wanted() -> bool {
    false
}

impl Span {
    pub(super) fn of_request(_ask: &Ask<'_>, _parent: Option<TraceParent>) -> Self {
        Self
    }

    pub(super) fn of_ask(_parent: Option<TraceParent>, _host: &str, _port: u16) -> Self {
        Self
    }

    pub(super) fn within(_parent: Option<TraceParent>, _name: &'static str) -> Self {
        Self
    }

    pub(super) fn context(&self) -> Option<TraceParent> {
        None
    }

    pub(super) fn replied(&mut self, _reply: &Reply) {}

    pub(super) fn ended(&mut self, _error: Option<&dyn Error>) {}
}
