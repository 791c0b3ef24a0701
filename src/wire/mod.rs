//! The protocol, pure: lines in, lines out. No sockets, no clock, and no panic on any input.

pub mod document;
pub mod json;
pub mod key;
pub mod reply;
pub mod request;
pub mod status;
pub mod traceparent;

pub use document::Document;
pub use key::{Key, KeyBuf, Pattern};
pub use reply::{Frame, Reply, ReplyView, Served};
pub use request::{Options, Request};
pub use status::Status;
pub use traceparent::TraceParent;
