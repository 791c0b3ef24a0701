//! Bytes on the way: the only folder that names a socket.
//!
//! ```text
//! asker ──▶ server ▶ conn ▶ exchange ▶ (inbox ▶ Handler ▶ outbox)          Handler ▶ link ▶ session | plain ──▶ peer
//! ```
//! What all connections of a server have in common: how much is under way (`crowd`), what waits to be read (`unread`), and
//! when many are answered at once (`rush`). How the last bytes of one leave is in `parting`.

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
#[cfg(not(sim))]
mod parting;
#[cfg(sim)]
#[path = "parting_sim.rs"]
mod parting;
mod rush;
pub mod server;
mod shared;
pub mod transport;
pub(crate) mod unread;

pub use link::{Link, LinkError, LinkLimits};
pub use server::Server;
pub use shared::ServerLimits;
pub use unread::Unread;
