//! Why a request has no reply.

use std::io::{self, ErrorKind};

use nix::libc::{EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM};
use thiserror::Error;

use super::Peer;
use crate::net::tls::TlsFault;

/// Why a request has no reply. Reads as a sentence behind the name of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum LinkError {
    /// The connection was refused or timed out, so the request was not sent.
    #[error("it cannot be reached")]
    Refused,
    /// The peer's name has no address, so the request was not sent.
    #[error("its name cannot be resolved")]
    Unresolved,
    /// The connection ended before the end of the reply.
    #[error("it closed the connection before it had answered")]
    Broken,
    /// The reply did not come in time.
    #[error("it did not answer in time")]
    Late,
    /// The bytes that came are no reply: not one line, or not to a request that was sent.
    #[error("its reply is not one line")]
    Garbage,
    /// The reply has more than [`LinkLimits::max_reply`](super::LinkLimits::max_reply) bytes.
    #[error("its reply is too long")]
    TooLong,
    /// The reply is a line that is not UTF-8.
    #[error("its reply is not UTF-8")]
    NotText,
    /// A limit of this link is reached, or the peer offers no place for a session; the request was not sent.
    #[error("too many requests wait for it")]
    Busy,
    /// There is no TLS with the peer, so the request was not sent.
    #[error("{0}")]
    Tls(TlsFault),
    /// This process has no ports, descriptors or memory left for a connection; the request was not sent.
    #[error("it was not asked, because this node has no ports, descriptors or memory left for a connection")]
    Exhausted,
}

impl LinkError {
    /// The meaning of a failed dial. An error that no system call returned comes from the resolution of the name. Without
    /// ports, descriptors or memory the fault is ours and not the peer's: [`LinkError::Exhausted`].
    pub fn of_dial(error: &io::Error) -> Self {
        if let Some(fault) = TlsFault::of(error) {
            return Self::Tls(fault);
        }
        match error.raw_os_error() {
            // connect(2): EADDRNOTAVAIL and EAGAIN are "no ephemeral port is free".
            Some(EADDRNOTAVAIL | EAGAIN | EMFILE | ENFILE | ENOBUFS | ENOMEM) => Self::Exhausted,
            Some(_) => Self::Refused,
            None if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::ConnectionRefused) => {
                Self::Refused
            }
            None => Self::Unresolved,
        }
    }

    /// The meaning of a read that failed: a peer that refuses our certificate says so only then (RFC 8446, section 4.4.2.4).
    pub(crate) fn of_read(error: &io::Error) -> Self {
        TlsFault::of(error).map_or(Self::Broken, Self::Tls)
    }

    /// Whether the fault is this node's own: it says nothing about the peer.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Busy | Self::Exhausted)
    }

    /// Whether the peer certainly did not get the request.
    pub fn was_not_sent(self) -> bool {
        matches!(self, Self::Refused | Self::Unresolved | Self::Tls(_))
    }

    /// A sentence for the user of a command line, with what to do about the error.
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
            Self::TooLong => format!("the reply of {peer} is longer than a document may be"),
            Self::NotText => format!("{peer} answered with a line that is not UTF-8"),
            Self::Tls(fault) => format!("no TLS with {peer}: {fault}"),
            Self::Busy => format!("too many requests wait for {peer}"),
            Self::Exhausted => format!(
                "{peer} was not asked: this process has no ports, descriptors (ulimit -n) or memory left for a connection"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_node_lacks_is_no_fault_of_the_peer() {
        for lacked in [EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM] {
            let error = LinkError::of_dial(&io::Error::from_raw_os_error(lacked));
            assert!(error == LinkError::Exhausted && error.is_ours(), "{lacked}");
        }
        for refused in [ErrorKind::ConnectionRefused, ErrorKind::TimedOut] {
            assert!(!LinkError::of_dial(&refused.into()).is_ours());
        }
        assert_eq!(LinkError::of_dial(&io::Error::other("no such name")), LinkError::Unresolved);
    }
}
