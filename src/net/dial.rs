//! Connecting to one of several addresses within a time: attempts overlap, so that a silent address hides no good one.
//!
//! RFC 8305 ("Happy Eyeballs"), section 5: the families take turns, an attempt that fails is followed by the next at once, and
//! one that is silent by the next after 250 ms. An address that was silent is tried once more in the end: a SYN that was lost,
//! often because the queue of a listener was full for a moment, is repeated by the kernel after a second only (RFC 6298,
//! section 2).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

use super::LinkError;
use super::tls::PeerTls;
use super::transport::{self, Stream};

/// The time between two attempts (RFC 8305, section 8).
const DELAY: Duration = Duration::from_millis(250);
/// The shortest such time (RFC 8305, section 5).
const SHORTEST_DELAY: Duration = Duration::from_millis(10);

/// A connection, and what it took.
pub(crate) struct Dialled {
    pub(crate) stream: Stream,
    /// An attempt was silent for the time between two attempts: a SYN may have been lost.
    pub(crate) was_silent: bool,
}

impl Dialled {
    /// Shakes hands with the peer at `host`, if the link speaks TLS. Errors carry a [`TlsFault`](super::tls::TlsFault), or are
    /// of the connection.
    pub(crate) async fn secured(
        self,
        tls: Option<&PeerTls>,
        host: &str,
        within: Duration,
    ) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(self) };
        let shaken = timeout(within, tls.connect(host, self.stream)).await;
        let stream = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(Self { stream, ..self })
    }
}

/// Connects to a host by name or address. The look-up is part of the time.
#[cfg(any(feature = "tools", feature = "otlp"))]
pub(crate) async fn dial(host: &str, port: u16, within: Duration) -> io::Result<Dialled> {
    let dialled = async {
        let addresses = super::transport::resolve(host, port).await?;
        race(&addresses, delay(addresses.len(), within)).await
    };
    timeout(within, dialled).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Connects to one of the addresses. Of the errors of all, one that is the peer's is returned rather than one of ours.
pub(crate) async fn connect(addresses: &[SocketAddr], within: Duration) -> io::Result<Dialled> {
    let race = race(addresses, delay(addresses.len(), within));
    timeout(within, race).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The time between two attempts: short enough for all addresses to have their turn within half of the time.
fn delay(addresses: usize, within: Duration) -> Duration {
    (within / (2 * addresses.max(1) as u32)).clamp(SHORTEST_DELAY, DELAY)
}

async fn race(addresses: &[SocketAddr], delay: Duration) -> io::Result<Dialled> {
    if addresses.is_empty() {
        return Err(io::Error::other("the name has no address"));
    }
    let mut order = Order::new(addresses);
    let mut attempts = FuturesUnordered::new();
    let (mut error, mut was_silent) = (None, false);
    loop {
        if let Some(address) = order.next() {
            attempts.push(async move { (address, transport::connect(address).await) });
        }
        let ended = match order.is_empty() {
            true => attempts.next().await,
            false => timeout(delay, attempts.next()).await.unwrap_or_else(|_| {
                was_silent = true;
                None
            }),
        };
        match ended {
            Some((_, Ok(stream))) => {
                // Lines are small and complete: nothing waits for more.
                stream.set_nodelay(true)?;
                return Ok(Dialled { stream, was_silent });
            }
            Some((address, Err(failure))) => {
                order.failed(address);
                let is_ours = |error: &io::Error| LinkError::of_dial(error).is_ours();
                let error = error.take_if(|before| !is_ours(before) || is_ours(&failure)).unwrap_or(failure);
                if order.all_failed() {
                    return Err(error);
                }
            }
            // Silent so far: the next attempt begins beside it.
            None => {}
        }
    }
}

/// The order of the attempts: each address once, then once more unless it has failed. Pure.
struct Order {
    next: VecDeque<SocketAddr>,
    not_failed: Vec<SocketAddr>,
}

impl Order {
    fn new(addresses: &[SocketAddr]) -> Self {
        let mut once: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
        let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (mut first, mut other): (VecDeque<SocketAddr>, VecDeque<SocketAddr>) =
            addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
        while let Some(address) = first.pop_front().or_else(|| other.pop_front()) {
            if !once.contains(&address) {
                once.push(address);
            }
            std::mem::swap(&mut first, &mut other);
        }
        Self { next: [&once[..], &once].concat().into(), not_failed: once }
    }

    fn next(&mut self) -> Option<SocketAddr> {
        self.next.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// The address is not tried again.
    fn failed(&mut self, address: SocketAddr) {
        self.next.retain(|next| *next != address);
        self.not_failed.retain(|other| *other != address);
    }

    fn all_failed(&self) -> bool {
        self.not_failed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_silent_addresses_come_again() {
        let all = addresses(&["[::1]:1", "[::2]:1", "[::2]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let turns = addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let mut order = Order::new(&all);
        let first: Vec<SocketAddr> = (0..turns.len()).filter_map(|_| order.next()).collect();
        assert_eq!(first, turns);
        order.failed(turns[0]);
        order.failed(turns[2]);
        let second: Vec<SocketAddr> = std::iter::from_fn(|| order.next()).collect();
        assert_eq!(second, [turns[1], turns[3], turns[4]]);
        second.into_iter().for_each(|address| order.failed(address));
        assert!(order.all_failed() && order.is_empty());
    }

    #[test]
    fn every_address_has_its_turn_within_half_of_the_time() {
        let second = Duration::from_secs(1);
        assert_eq!((delay(1, second), delay(2, second)), (DELAY, DELAY));
        assert_eq!(delay(5, second), second / 10);
        assert_eq!(delay(1_000, second), SHORTEST_DELAY);
    }

    #[tokio::test]
    async fn a_refused_address_delays_the_next_one_by_nothing() {
        let listener = crate::net::transport::Listener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let refused: Vec<SocketAddr> = addresses(&["127.0.0.1:1", "127.0.0.2:1"]);
        let dialled = connect(&[&refused[..], &[good]].concat(), Duration::from_secs(9)).await.unwrap();
        assert_eq!(dialled.stream.peer_addr().unwrap(), good);
        assert!(!dialled.was_silent);
        let error = connect(&refused, Duration::from_secs(9)).await.err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::ConnectionRefused));
        assert!(connect(&[], Duration::from_secs(9)).await.is_err(), "no address at all");
    }
}
