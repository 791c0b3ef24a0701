//! Why a request has no reply.

use std::io::{self, ErrorKind};

use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
use thiserror::Error;

use super::Peer;

/// Why there is no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LinkError {
    /// No connection was made, so the request was not sent.
    #[error("it cannot be reached")]
    Refused,
    /// Its name has no address, so the request was not sent.
    #[error("its name cannot be resolved")]
    Unresolved,
    /// The connection ended before the reply was whole.
    #[error("it closed the connection before it had answered")]
    Broken,
    /// The reply did not come in time.
    #[error("it did not answer in time")]
    Late,
    /// What came is not one line of bounded length.
    #[error("its reply is not one line")]
    Garbage,
    /// A limit of this link or of this process is reached; the peer was not asked.
    #[error("too many requests wait for it")]
    Busy,
}

impl LinkError {
    /// Why no connection was made. An error that no system call brought came from the search for the name; one that says
    /// that we have no descriptor or memory left says nothing of the peer.
    pub fn of_dial(error: &io::Error) -> Self {
        let is_of_network = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionRefused);
        if let Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) = error.raw_os_error() {
            return Self::Busy;
        }
        if error.raw_os_error().is_none() && !is_of_network { Self::Unresolved } else { Self::Refused }
    }

    /// Whether the peer cannot have seen the request.
    pub fn was_not_sent(self) -> bool {
        matches!(self, Self::Refused | Self::Unresolved)
    }

    /// The same for a person who asked this peer by hand, with what to do about it.
    pub fn advice(self, peer: &Peer) -> String {
        match self {
            Self::Refused => format!(
                "nothing listens on {peer}; start it with: dproxy cluster (or dproxy origin, proxy, lb), or name another with --host and --port"
            ),
            Self::Unresolved => {
                format!("the name {} cannot be resolved; name another node with --host and --port", peer.host)
            }
            Self::Broken => {
                format!("{peer} closed the connection before it had answered; is it a dproxy node?")
            }
            Self::Late => format!("{peer} did not answer in time; --timeout gives it longer"),
            Self::Garbage => format!(
                "{peer} answered, but not with one line; is it a dproxy node? What serves HTTP is asked with curl"
            ),
            Self::Busy => format!(
                "too many requests wait for {peer}, or this process has no descriptors left (ulimit -n)"
            ),
        }
    }
}
