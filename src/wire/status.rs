//! The status of a reply: its first member.

use std::fmt;

/// The statuses of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    /// The request succeeded.
    Ok,
    /// There is no such document.
    NotFound,
    /// The line is not a request; `data` says why.
    BadRequest,
    /// A well-formed line with a verb that this node does not have.
    WrongMethod,
    /// The stored file is not JSON, too large or unreadable.
    BadDocument,
    /// The origin cannot be reached, is late, or did not answer with a document or NOT_FOUND.
    OriginFailure,
    /// Every proxy that was tried failed.
    ProxyUnreachable,
    /// There is no healthy proxy to try.
    ProxyError,
    /// The client's address may not use this verb.
    Forbidden,
    /// A limit of this node is reached.
    Overloaded,
    /// The document is the one that the client holds: the reply to `if=<etag>`.
    NotModified,
    /// Printed by `dproxy client` when no reply came; never on the wire.
    ClientConnectionError,
}

impl Status {
    /// Every status, in the order of the protocol's table.
    pub const ALL: [Status; 12] = [
        Status::Ok,
        Status::NotFound,
        Status::BadRequest,
        Status::WrongMethod,
        Status::BadDocument,
        Status::OriginFailure,
        Status::ProxyUnreachable,
        Status::ProxyError,
        Status::Forbidden,
        Status::Overloaded,
        Status::NotModified,
        Status::ClientConnectionError,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::NotFound => "NOT_FOUND",
            Status::NotModified => "NOT_MODIFIED",
            Status::BadRequest => "BAD_REQUEST",
            Status::WrongMethod => "WRONG_METHOD",
            Status::BadDocument => "BAD_DOCUMENT",
            Status::OriginFailure => "ORIGIN_FAILURE",
            Status::ProxyUnreachable => "PROXY_UNREACHABLE",
            Status::ProxyError => "PROXY_ERROR",
            Status::Forbidden => "FORBIDDEN",
            Status::Overloaded => "OVERLOADED",
            Status::ClientConnectionError => "CLIENT_CONNECTION_ERROR",
        }
    }

    /// The status of HTTP that means it (RFC 9110, section 15).
    pub fn http_code(self) -> u16 {
        match self {
            Status::Ok => 200,
            Status::NotModified => 304,
            Status::NotFound => 404,
            Status::BadRequest => 400,
            Status::Forbidden => 403,
            Status::WrongMethod => 405,
            Status::Overloaded | Status::ProxyUnreachable | Status::ProxyError => 503,
            Status::BadDocument | Status::OriginFailure | Status::ClientConnectionError => 502,
        }
    }

    /// Reads a name, `None` for an unknown one. A colon and what follows it are ignored: older nodes write
    /// `WRONG_METHOD: PUT`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "OK" {
            return Some(Status::Ok);
        }
        let name = text.split_once(':').map_or(text, |(name, _)| name);
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
