//! Bytes on the way: the only folder that names a socket.
//!
//! ```text
//! asker ──▶ server ▶ conn ▶ exchange ▶ (inbox ▶ Handler ▶ outbox)          Handler ▶ link ▶ session | plain ──▶ peer
//! ```
//! What all connections of a server have in common: how much is under way (`crowd`), and what waits to be read (`unread`).

pub mod accept;
mod conn;
mod crowd;
mod exchange;
#[cfg(not(sim))]
mod handover;
#[cfg(sim)]
#[path = "handover_sim.rs"]
mod handover;
mod inbox;
mod lines;
pub mod link;
mod outbox;
pub mod server;
mod shared;
pub mod transport;
pub(crate) mod unread;

pub use link::{Link, LinkError, LinkLimits};
pub use server::Server;
pub use shared::ServerLimits;
pub use unread::Unread;
