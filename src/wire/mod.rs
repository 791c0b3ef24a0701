//! The protocol, pure: text of lines to values and back. No sockets, no clock, and no panic on any input.
//!
//! ```text
//! plain      GET article/1                  {"status":"OK","data":{…},"cache_hit":true,"node":8001}
//! session    7 GET article/1 deadline=250   7 {"status":"OK","data":{…},"cache_hit":true,"node":8001}
//! ```
//!
//! A line is UTF-8 (RFC 3629), a document is JSON (RFC 8259), `traceparent` is that of W3C Trace Context. A [`Request`] is
//! read from a client's line and written to an upstream; a [`Reply`] is written to a client, and a [`ReplyView`] is read
//! from an upstream's line.

pub mod acked;
pub mod beside;
pub mod changes;
pub mod document;
pub mod escape;
pub mod json;
pub mod key;
pub mod meta;
pub mod query;
pub mod record;
pub mod reply;
pub mod request;
pub mod served;
pub mod status;
pub mod tell;
pub mod told;
pub mod traceparent;

#[cfg(test)]
mod fuzz_tests;

pub use acked::Acked;
pub use changes::{Batch, Changed, Position, Watch};
pub use document::{Document, MAX_DOCUMENT};
pub use key::{Key, KeyBuf, Pattern};
pub use meta::Meta;
pub use record::{Notes, Record};
pub use reply::{Content, Data, Frame, Reply, ReplyView};
pub use request::{Options, Request};
pub use served::{Served, Terms};
pub use status::Status;
pub use tell::Tell;
pub use traceparent::TraceParent;
