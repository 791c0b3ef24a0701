//! The sockets that systemd hands over: each goes to the front end that its name or its port says, and none is left. They
//! outlive the process, so a restart refuses no client.

use std::net::TcpListener;

use anyhow::{Context, Result, bail};

/// Where a socket is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Front {
    Line,
    Http,
}

impl Front {
    /// `FileDescriptorName=` of its sockets.
    fn name(self) -> &'static str {
        match self {
            Front::Line => "line",
            Front::Http => "http",
        }
    }
}

/// The sockets that no front end has taken yet.
#[derive(Default)]
pub(super) struct Sockets(Vec<Socket>);

struct Socket {
    name: String,
    port: u16,
    listener: TcpListener,
}

impl Sockets {
    /// All sockets that were handed over to this process. Fails when one is no TCP listener.
    pub(super) fn handed_over() -> Result<Self> {
        // Read first: taking the sockets over clears the variables.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut handed_over = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed_over.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let listener = handed_over
                .take_tcp_listener(index)
                .with_context(|| format!("the socket {name:?} that was handed over is no TCP listener"))?;
            let Some(listener) = listener else { continue };
            let port = listener.local_addr().context("a socket that was handed over has no address")?.port();
            sockets.push(Socket { name, port, listener });
        }
        Ok(Self(sockets))
    }

    /// Whether a socket is for this front end by its name.
    pub(super) fn has(&self, front: Front) -> bool {
        self.0.iter().any(|socket| socket.name == front.name())
    }

    /// The sockets of a front end: by their name, else by their port; and lines are served on the only socket, whatever it
    /// is called.
    pub(super) fn take(&mut self, front: Front, port: Option<u16>) -> Vec<TcpListener> {
        let is_alone = self.0.len() == 1;
        let is_named =
            |socket: &Socket| [Front::Line, Front::Http].iter().any(|any| socket.name == any.name());
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|socket| {
            socket.name == front.name()
                || !is_named(socket) && (port == Some(socket.port) || is_alone && front == Front::Line)
        });
        self.0 = left;
        let taken: Vec<Socket> = taken;
        taken.into_iter().map(|socket| socket.listener).collect()
    }

    /// Fails when a socket would be left unserved: its clients would wait for ever.
    pub(super) fn none_is_left(&self) -> Result<()> {
        let Some(Socket { name, port, .. }) = self.0.first() else { return Ok(()) };
        bail!(
            "nothing serves the socket {name:?} on port {port} that was handed over; give it \
             FileDescriptorName=line or http, or its port to --port or --http-port"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(names: &[&str]) -> (Sockets, Vec<u16>) {
        let socket = |name: &&str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            Socket { name: (*name).to_owned(), port: listener.local_addr().unwrap().port(), listener }
        };
        let sockets: Vec<Socket> = names.iter().map(socket).collect();
        let ports = sockets.iter().map(|socket| socket.port).collect();
        (Sockets(sockets), ports)
    }

    #[test]
    fn each_goes_where_its_name_or_port_says() {
        let (mut named, _) = sockets(&["http", "line", "line"]);
        assert!(named.has(Front::Http));
        assert_eq!((named.take(Front::Line, None).len(), named.take(Front::Http, None).len()), (2, 1));
        assert!(named.none_is_left().is_ok());
        let (mut by_port, ports) = sockets(&["a.socket", "a.socket"]);
        assert_eq!(by_port.take(Front::Line, Some(ports[1])).len(), 1);
        assert_eq!(by_port.take(Front::Http, Some(1)).len(), 0);
        let why = by_port.none_is_left().unwrap_err().to_string();
        assert!(why.contains(&format!("port {}", ports[0])), "{why}");
        let (mut alone, _) = sockets(&["a.socket"]);
        assert_eq!(alone.take(Front::Line, Some(1)).len(), 1);
        let (mut http, _) = sockets(&["http"]);
        assert_eq!((http.take(Front::Line, Some(1)).len(), http.take(Front::Http, None).len()), (0, 1));
    }
}
