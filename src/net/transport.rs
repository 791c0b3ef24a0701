//! Streams and listeners of TCP, or of the simulated network: no other file knows which.
//!
//! The simulated network is turmoil's, in builds with `RUSTFLAGS="--cfg sim"`.

use std::io;
use std::net::SocketAddr;

#[cfg(not(sim))]
use tokio::sync::Semaphore;

#[cfg(all(feature = "https", not(sim)))]
pub use super::tls::Stream;
#[cfg(not(sim))]
pub use tokio::net::TcpListener as Listener;
#[cfg(all(not(feature = "https"), not(sim)))]
pub use tokio::net::TcpStream as Stream;
/// A connection as it is accepted, before any TLS.
#[cfg(not(sim))]
pub use tokio::net::TcpStream as Tcp;
#[cfg(sim)]
pub use turmoil::net::{TcpListener as Listener, TcpStream as Stream, TcpStream as Tcp};

/// The limit of connections that the kernel queues until we accept them.
#[cfg(not(sim))]
const BACKLOG: i32 = 4096;

/// A listening socket that no runtime polls yet.
#[cfg(not(sim))]
pub struct Bound(std::net::TcpListener);

#[cfg(not(sim))]
impl Bound {
    /// The address it listens at.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// A listener of the current runtime.
    pub fn listen(self) -> io::Result<Listener> {
        Listener::from_std(self.0)
    }
}

/// Listens on `address` once per core: the kernel spreads connections over the listeners.
///
/// All share one port; the kernel picks it if the port of `address` is 0. Fails with `AddrInUse` when another process listens
/// there. With `share`, another process of the same user may listen there too, as long as it is one of ours: the port is being
/// handed over. Whether that one shares, too, cannot be told: its own listeners need SO_REUSEPORT, and the kernel asks no more.
#[cfg(not(sim))]
pub fn bind(address: SocketAddr, count: usize, share: bool) -> io::Result<Vec<Bound>> {
    if !share && address.port() != 0 {
        // Without SO_REUSEPORT this fails if any process listens there, sharing or not.
        listening_socket(address, false)?;
    }
    let first = listening_socket(address, true)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(listening_socket(address, true)?);
    }
    sockets.into_iter().map(|socket| socket.listen(BACKLOG).map(|()| Bound(socket.into()))).collect()
}

/// Listens with a socket that another process opened, `count` times: all share its one queue.
#[cfg(not(sim))]
pub fn adopt(listener: std::net::TcpListener, count: usize) -> io::Result<Vec<Bound>> {
    listener.set_nonblocking(true)?;
    let mut bound = Vec::new();
    for _ in 1..count {
        bound.push(Bound(listener.try_clone()?));
    }
    bound.push(Bound(listener));
    Ok(bound)
}

#[cfg(not(sim))]
fn listening_socket(address: SocketAddr, reuse_port: bool) -> io::Result<socket2::Socket> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.ip() == std::net::Ipv6Addr::UNSPECIFIED {
        // IPv4 as well, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket of the program; there are none in the simulation, whose hosts call [`listen`].
#[cfg(sim)]
pub struct Bound(SocketAddr);

#[cfg(sim)]
impl Bound {
    /// The address it listens at.
    pub fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }

    /// Fails.
    pub fn listen(self) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Fails.
#[cfg(sim)]
pub fn bind(_address: SocketAddr, _count: usize, _share: bool) -> io::Result<Vec<Bound>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails.
#[cfg(sim)]
pub fn adopt(_listener: std::net::TcpListener, _count: usize) -> io::Result<Vec<Bound>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Listens on a port of the current simulated host.
#[cfg(sim)]
pub async fn listen(port: u16) -> io::Result<Listener> {
    Listener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await
}

/// Limits the bytes that the kernel takes from each accepted connection beyond those that are on their way
/// (TCP_NOTSENT_LOWAT, tcp(7)): some megabytes else, for a client that reads nothing. Connections have it from the listener.
#[cfg(not(sim))]
pub(crate) fn limit_unsent(listener: &Listener, bytes: usize) {
    // An error only means that the kernel goes by its own limits.
    let _ = socket2::SockRef::from(listener).set_tcp_notsent_lowat(bytes as u32);
}

/// The simulated network has no such buffers.
#[cfg(sim)]
pub(crate) fn limit_unsent(_listener: &Listener, _bytes: usize) {}

/// Connects to an address.
#[cfg(not(sim))]
pub(super) async fn connect(address: SocketAddr) -> io::Result<Stream> {
    Stream::connect(address).await
}

/// Connects to an address, unless [`starve`] has taken the ports.
#[cfg(sim)]
pub(super) async fn connect(address: SocketAddr) -> io::Result<Stream> {
    if STARVED.with_borrow(|starved| starved.contains(&address.ip())) {
        return Err(io::Error::from_raw_os_error(nix::libc::EADDRNOTAVAIL));
    }
    Stream::connect(address).await
}

#[cfg(sim)]
thread_local! {
    /// The addresses towards which no host has a port left: a simulation is one thread.
    static STARVED: std::cell::RefCell<std::collections::BTreeSet<std::net::IpAddr>> = const { std::cell::RefCell::new(std::collections::BTreeSet::new()) };
}

/// From now on no host has a local port left for a connection to this address, or all have again.
#[cfg(sim)]
pub fn starve(address: std::net::IpAddr, is_starved: bool) {
    STARVED.with_borrow_mut(|starved| match is_starved {
        true => starved.insert(address),
        false => starved.remove(&address),
    });
}

/// Makes the last bytes written and the close one segment: the kernel keeps an incomplete segment back until the stream is
/// shut down or closed, for at most 200 ms (TCP_CORK, tcp(7)). A segment for the close alone costs as much as a reply.
#[cfg(not(sim))]
pub(super) fn cork(stream: &Stream) {
    // An error only means one segment more, or a closed connection, which the write reports.
    let _ = socket2::SockRef::from(stream).set_tcp_cork(true);
}

/// A segment costs nothing in the simulated network.
#[cfg(sim)]
pub(super) fn cork(_stream: &Stream) {}

/// A connection that was accepted, before any TLS.
#[cfg_attr(
    not(all(feature = "https", not(sim))),
    allow(clippy::useless_conversion, reason = "without TLS it is the same type")
)]
pub(super) fn accepted(stream: Tcp) -> Stream {
    stream.into()
}

/// Whether bytes that were written wait in records of TLS that the socket has not taken.
#[cfg(all(feature = "https", not(sim)))]
pub(super) fn has_unsent(stream: &Stream) -> bool {
    stream.has_unsent()
}

/// Without TLS nothing waits.
#[cfg(not(all(feature = "https", not(sim))))]
pub(super) fn has_unsent(_stream: &Stream) -> bool {
    false
}

/// Look-ups at once: each holds a thread of the pool for blocking work for as long as a silent name server likes.
#[cfg(not(sim))]
static LOOK_UPS: Semaphore = Semaphore::const_new(16);

/// All addresses of a name. A look-up that nobody waits for any more still counts among those at once until it has ended.
#[cfg(not(sim))]
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let permit = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    let look_up = async move {
        let _permit = permit;
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    };
    tokio::spawn(look_up).await?
}

/// The one address of a simulated name.
#[cfg(sim)]
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
}

#[cfg(all(test, not(sim)))]
pub(crate) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    /// A listener, and a client connected to it; the socket buffers at both ends hold a few thousand bytes.
    pub(crate) async fn narrow() -> (Listener, Stream) {
        let listening = TcpSocket::new_v4().unwrap();
        listening.set_send_buffer_size(4096).unwrap();
        listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listening.listen(1).unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        let client = client.connect(listener.local_addr().unwrap()).await.unwrap();
        (listener, Stream::from(client))
    }

    async fn corked() -> (Stream, Stream) {
        let (listener, reader) = narrow().await;
        let (writer, _) = listener.accept().await.unwrap();
        let writer = Stream::from(writer);
        // As on a session: TCP_CORK takes precedence over TCP_NODELAY.
        writer.set_nodelay(true).unwrap();
        cork(&writer);
        (writer, reader)
    }

    async fn all_of(mut reader: Stream) -> Vec<u8> {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn a_close_sends_corked_bytes() {
        let (mut writer, reader) = corked().await;
        writer.write_all(b"good bye").await.unwrap();
        assert!(socket2::SockRef::from(&writer).tcp_cork().unwrap());
        drop(writer);
        assert_eq!(all_of(reader).await, b"good bye");
    }

    #[tokio::test]
    async fn a_shutdown_sends_corked_bytes() {
        let (mut writer, reader) = corked().await;
        writer.write_all(b"good bye").await.unwrap();
        writer.shutdown().await.unwrap();
        assert_eq!(all_of(reader).await, b"good bye");
    }

    #[tokio::test]
    async fn more_bytes_than_the_socket_buffers_hold_arrive_whole() {
        let text: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut writer, reader) = corked().await;
        let reading = tokio::spawn(all_of(reader));
        writer.write_all(&text).await.unwrap();
        drop(writer);
        assert!(reading.await.unwrap() == text);
    }
}
