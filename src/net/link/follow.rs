//! A session follows its peer's name: when the name loses the address, requests go to a new session elsewhere.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::addresses::Addresses;
use super::session::Session;

/// Looks the name up again and again until the handle is dropped. `None` for a peer that is an address.
///
/// In a task of its own: the session's task is polled for every reply.
pub(super) fn start(
    session: &Arc<Session>,
    addresses: Arc<Addresses>,
    at: Option<SocketAddr>,
) -> Option<AbortOnDropHandle<()>> {
    let every = addresses.renewed_every()?;
    Some(AbortOnDropHandle::new(tokio::spawn(follow(Arc::downgrade(session), addresses, at?, every))))
}

async fn follow(session: Weak<Session>, addresses: Arc<Addresses>, at: SocketAddr, every: Duration) {
    loop {
        sleep(every).await;
        // Sessions of other cores look at the same time: one look-up serves all.
        let found = addresses.look_up(every / 2).await;
        if found.is_ok_and(|found| !found.contains(&at))
            && let Some(session) = session.upgrade()
        {
            info!(peer = %session.peer, %at, "the name has lost this address: its session ends");
            return session.lock().leave();
        }
    }
}
