//! Streams and listeners: the one place that knows which network there is.
//!
//! Built with `RUSTFLAGS="--cfg sim"` it is turmoil's simulated network, else TCP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[cfg(not(sim))]
pub use tokio::net::{TcpListener as Listener, TcpStream as Stream};
#[cfg(sim)]
pub use turmoil::net::{TcpListener as Listener, TcpStream as Stream};

/// How many connections the kernel may hold for us before we accept them.
#[cfg(not(sim))]
const BACKLOG: i32 = 4096;

/// A socket that is bound and listens, not yet taken by a runtime.
#[cfg(not(sim))]
pub struct Bound(std::net::TcpListener);

#[cfg(not(sim))]
impl Bound {
    /// Where.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// A listener of the runtime that this is called in.
    pub fn listen(self) -> io::Result<Listener> {
        Listener::from_std(self.0)
    }
}

/// Listens on `address` once per core: the kernel spreads connections over the listeners.
///
/// All share one port, which the first one picks when `address` says 0. Fails with `AddrInUse` when another process
/// listens there, unless `share` says that a process which shares its port as well may: the port is handed over.
#[cfg(not(sim))]
pub fn bind(address: SocketAddr, count: usize, share: bool) -> io::Result<Vec<Bound>> {
    if !share && address.port() != 0 {
        // A socket without SO_REUSEPORT finds out whether someone is there, sharing or not.
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

/// Listens with a socket that was opened elsewhere, once per core: all share its one queue.
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
    socket.bind(&address.into())?;
    Ok(socket)
}

/// In a simulation hosts listen by [`listen`]; what the program itself binds is not there.
#[cfg(sim)]
pub struct Bound(SocketAddr);

#[cfg(sim)]
impl Bound {
    /// Where.
    pub fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.0)
    }

    /// No listener of a real network.
    pub fn listen(self) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// No real port is bound in a simulation.
#[cfg(sim)]
pub fn bind(_address: SocketAddr, _count: usize, _share: bool) -> io::Result<Vec<Bound>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Listens on a port of the simulated host that this runs on.
#[cfg(sim)]
pub async fn listen(port: u16) -> io::Result<Listener> {
    Listener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await
}

/// Connects to a host by name or address, within `deadline`. Lines are small and complete: nothing waits for more.
pub async fn dial(host: &str, port: u16, deadline: Duration) -> io::Result<Stream> {
    let connected = tokio::time::timeout(deadline, Stream::connect((host, port))).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// All addresses of a name.
#[cfg(not(sim))]
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.map(|address| address.ip()).collect())
}

/// All addresses of a name: a simulated one has one.
#[cfg(sim)]
pub async fn resolve(host: &str, _port: u16) -> io::Result<Vec<IpAddr>> {
    Ok(vec![turmoil::lookup(host)])
}
