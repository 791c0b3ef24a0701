//! Connections: the only folder that names a socket.
//!
//! ```text
//! client ──▶ server ▶ conn ▶ exchange ▶ (inbox ▶ Handler ▶ outbox)      Handler ▶ link ▶ session | plain ──▶ upstream
//! ```
//! All connections of a server share three bounds: their number (`places`), the requests in flight (`in_flight`) and the
//! bytes of replies that clients have not read (`unread`).
//!
//! # Six words
//!
//! | word | meaning |
//! |---|---|
//! | client | the end of a connection that sends requests: a program, or the node in front of this one |
//! | upstream | the node to which this one sends requests: an origin for a proxy, a proxy for a balancer |
//! | session | a connection that began with `HELLO 2`: it carries many requests at once, each with an id |
//! | request | one line from a client; a plain one is the only one of its connection |
//! | reply | the one line for a request |
//! | node | a process, or a part of one, that serves a role at a port |
//!
//! A request is *in flight* from its arrival until its reply is ready.

pub mod accept;
pub(crate) mod closing;
mod conn;
pub(crate) mod dial;
mod exchange;
mod foreign;
#[cfg(not(sim))]
mod handover;
#[cfg(sim)]
#[path = "handover_sim.rs"]
mod handover;
mod in_flight;
mod inbox;
mod lines;
pub mod link;
mod log_pause;
mod outbox;
pub(crate) mod places;
pub mod server;
mod shared;
pub mod tls;
pub mod transport;
pub(crate) mod unread;

pub use link::{Link, LinkError, LinkLimits};
pub use server::Server;
pub use shared::ServerLimits;
pub use unread::Unread;
