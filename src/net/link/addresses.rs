//! The addresses of a peer: looked up once and again, kept while a look-up fails, dialled with the last good one first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{LinkLimits, Peer};
use crate::lock::lock;
use crate::net::dial::{self, Dialled};
use crate::net::transport;

/// After a connect that failed, a name is looked up again if its addresses are older than this.
const DOUBTED_AFTER: Duration = Duration::from_secs(1);

/// The addresses of one peer, shared by all of its link's connections.
pub(crate) struct Addresses {
    peer: Peer,
    /// `None` for an address, which is not looked up.
    renewed_every: Option<Duration>,
    known: Mutex<Known>,
    /// Held while a look-up is under way: one at a time.
    looking: Arc<tokio::sync::Mutex<()>>,
}

struct Known {
    /// The last good one first. Empty before the first look-up.
    addresses: Vec<SocketAddr>,
    /// When they were looked up.
    at: Instant,
    is_doubted: bool,
}

impl Addresses {
    pub(crate) fn new(peer: Peer, renewed_every: Duration) -> Arc<Self> {
        let address = peer.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, peer.port));
        let renewed_every = address.is_none().then_some(renewed_every);
        let addresses = Vec::from_iter(address);
        let known = Mutex::new(Known { addresses, at: Instant::now(), is_doubted: false });
        Arc::new(Self { peer, renewed_every, known, looking: Arc::default() })
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The time between two look-ups; `None` for an address.
    pub(super) fn renewed_every(&self) -> Option<Duration> {
        self.renewed_every
    }

    /// Connects to one of the addresses. Those that are known are used even if they are old; then the name is looked up
    /// meanwhile, for the next dial.
    pub(crate) async fn dial(self: &Arc<Self>, within: Duration) -> io::Result<Dialled> {
        let began = Instant::now();
        let usable = timeout(within, self.usable()).await;
        let usable =
            usable.unwrap_or_else(|_| Err(io::Error::other("the look-up of the name took too long")))?;
        let dialled = dial::connect(&usable, within.saturating_sub(began.elapsed())).await;
        let mut known = lock(&self.known);
        match dialled.as_ref().map(|dialled| dialled.stream.peer_addr()) {
            Ok(Ok(good)) => known.prefer(good),
            Ok(Err(_)) => {}
            Err(_) => known.is_doubted = true,
        }
        dialled
    }

    /// The same, with the handshake of a link that speaks TLS; each within the time to connect.
    pub(super) async fn dial_for(self: &Arc<Self>, limits: &LinkLimits) -> io::Result<Dialled> {
        let dialled = self.dial(limits.connect_deadline).await?;
        match limits.tls.is_some() {
            false => Ok(dialled),
            true => {
                // In a box: a plain request must not be larger by a handshake.
                Box::pin(dialled.secured(limits.tls.as_ref(), &self.peer.host, limits.connect_deadline)).await
            }
        }
    }

    async fn usable(self: &Arc<Self>) -> io::Result<Vec<SocketAddr>> {
        let (addresses, age, is_doubted) = {
            let known = lock(&self.known);
            (known.addresses.clone(), known.at.elapsed(), known.is_doubted)
        };
        if addresses.is_empty() {
            return self.look_up(Duration::MAX).await;
        }
        self.renew_if_due(age, is_doubted);
        Ok(addresses)
    }

    /// Looks the name up in a task of its own, if that is due.
    fn renew_if_due(self: &Arc<Self>, age: Duration, is_doubted: bool) {
        let Some(every) = self.renewed_every else { return };
        let max_age = if is_doubted { DOUBTED_AFTER } else { every };
        if age >= max_age && self.looking.try_lock().is_ok() {
            let addresses = self.clone();
            tokio::spawn(async move { addresses.look_up(max_age).await });
        }
    }

    /// Whether the name has this address, by the last look-up; the next one is begun if it is due.
    pub(crate) fn has(self: &Arc<Self>, address: SocketAddr) -> bool {
        let (has, age, is_doubted) = {
            let known = lock(&self.known);
            (known.addresses.contains(&address), known.at.elapsed(), known.is_doubted)
        };
        self.renew_if_due(age, is_doubted);
        has
    }

    /// The addresses, looked up if they are of this age. It runs to its end even if nobody waits for it any more.
    pub(super) async fn look_up(self: &Arc<Self>, max_age: Duration) -> io::Result<Vec<SocketAddr>> {
        let looking = self.looking.clone().lock_owned().await;
        {
            let known = lock(&self.known);
            if !known.addresses.is_empty() && known.at.elapsed() < max_age {
                return Ok(known.addresses.clone());
            }
        }
        let addresses = self.clone();
        let look_up = async move {
            let _looking = looking;
            let Peer { host, port } = &addresses.peer;
            let found = transport::resolve(host, *port).await?;
            Ok(lock(&addresses.known).renew(found))
        };
        tokio::spawn(look_up).await?
    }
}

impl Known {
    /// Puts a good address first.
    fn prefer(&mut self, good: SocketAddr) {
        self.is_doubted = false;
        if let Some(at) = self.addresses.iter().position(|address| *address == good) {
            self.addresses[..=at].rotate_right(1);
        }
    }

    fn renew(&mut self, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let good = self.addresses.first().copied();
        *self = Self { addresses: found, at: Instant::now(), is_doubted: false };
        good.inspect(|good| self.prefer(*good));
        self.addresses.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_address_stays_first() {
        let [a, b, c] = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|text| text.parse().unwrap());
        let mut known = Known { addresses: vec![a, b, c], at: Instant::now(), is_doubted: true };
        known.prefer(c);
        assert_eq!((&known.addresses[..], known.is_doubted), (&[c, a, b][..], false));
        assert_eq!(known.renew(vec![a, b, c]), [c, a, b]);
        assert_eq!(known.renew(vec![b, a]), [b, a], "the name has lost it");
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let addresses = Addresses::new("[::1]:7".parse().unwrap(), Duration::ZERO);
        assert_eq!(addresses.usable().await.unwrap(), ["[::1]:7".parse().unwrap()]);
        assert!(addresses.renewed_every().is_none());
    }
}
