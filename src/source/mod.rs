//! Where documents come from: the seam between a proxy and what it stands before.
//!
//! ```text
//!   proxy ──Wanted──▶ Source ─┬─ link   an origin or a proxy of ours, over lines
//!                             └─ http   an API
//! ```
//! A source is asked for one key, with a deadline. What it brings is an answer about the key, or a failure and whose that
//! is; it keeps nothing. Turns, retries and the gate to a failing source are the proxy's.

mod answer;
pub mod http;
mod link;
mod policy;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use tokio::time::Instant;

pub use self::answer::{Brought, Past, Unmet, Untold, Unwatched};
pub use self::http::{ApiConfig, HttpSource};
pub use self::link::LinkSource;
pub use self::policy::{Known, Policy, Validator};
use crate::wire::{Acked, Batch, Changed, Key, Watch};

/// A key, and until when its document is of use.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The key of the document.
    pub key: Key<'a>,
    /// The validator of the document that is held, if there is one.
    pub validator: Option<&'a Validator<'a>>,
    /// The answer must have come by then.
    pub deadline: Instant,
    /// The connection of the last try was lost: this one is sent once, and not again on a second connection.
    pub is_again: bool,
}

/// The answer of a source. Boxed: only a miss waits for one.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<Brought, Unmet>> + Send + 'a>>;

/// The changes at a source.
pub type Watching<'a> = Pin<Box<dyn Future<Output = Result<Batch, Unwatched>> + Send + 'a>>;

/// The word of a change, on its way to a source.
pub type Telling<'a> = Pin<Box<dyn Future<Output = Result<Acked, Untold>> + Send + 'a>>;

/// The kind of a source, for METRICS and EXPLAIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A node of ours.
    Node,
    /// An API.
    Http,
    /// A bucket of an object store.
    Bucket,
}

impl Kind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Http => "http",
            Kind::Bucket => "bucket",
        }
    }

    /// Whether its answers say how long a document may be kept.
    pub fn says_times(self) -> bool {
        self != Kind::Node
    }
}

/// A place that documents come from. Displays as its address, for logs.
pub trait Source: fmt::Display + Send + Sync + 'static {
    /// Asks for a document once. The future ends soon after the deadline.
    fn ask<'a>(&'a self, wanted: Wanted<'a>) -> Answering<'a>;

    /// Asks for changes once. The future ends soon after the deadline. `None` if it can never tell of any.
    fn watch(&self, _watch: Watch, _deadline: Instant) -> Option<Watching<'_>> {
        None
    }

    /// Says once that documents have changed. The future ends soon after the deadline. `None` if it tells nobody of changes.
    fn tell<'a>(&'a self, _changed: Changed<'a>, _deadline: Instant) -> Option<Telling<'a>> {
        None
    }

    /// What it is.
    fn kind(&self) -> Kind;
}
