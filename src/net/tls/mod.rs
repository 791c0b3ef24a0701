//! TLS on connections: certificates out of files, handshakes within deadlines, and errors in sentences.
//!
//! ```text
//! files ▶ identity ▶ ServerTls ─▶ handshake ─▶ Stream ◀─ handshake ◀─ PeerTls ◀ identity ◀ files
//!                                     └──────▶ TlsFault ◀──────┘
//! ```
//! Between nodes it is TLS 1.3 alone; clients of HTTP may come with TLS 1.2 (RFC 8446, RFC 5246). Nothing resumes: a session
//! that is resumed is not verified again, and would outlive the certificate of its client. The cryptography is rustls's over
//! aws-lc-rs.

mod fault;
mod greeting;
pub use fault::TlsFault;
pub(crate) use greeting::{Greeted, greet, log};

#[cfg(all(feature = "https", not(sim)))]
mod identity;
#[cfg(all(feature = "https", not(sim)))]
mod stream;
#[cfg(all(feature = "https", not(sim)))]
mod validity;
#[cfg(all(feature = "https", not(sim)))]
pub use identity::{PeerTls, ServerTls};
#[cfg(all(feature = "https", not(sim)))]
pub use stream::Stream;

#[cfg(not(all(feature = "https", not(sim))))]
mod no_tls;
#[cfg(not(all(feature = "https", not(sim))))]
pub use no_tls::{PeerTls, ServerTls};

use std::path::PathBuf;

/// The first byte of a connection whose client speaks TLS: the type of a handshake record (RFC 8446, section 5.1). No request
/// begins with it.
pub(crate) const FIRST_BYTE: u8 = 0x16;

/// The files of a server, all in PEM.
#[derive(Clone, Default, Debug)]
pub struct ServerFiles {
    /// The certificate, and behind it those between it and its CA.
    pub cert: Option<PathBuf>,
    /// The key of the certificate.
    pub key: Option<PathBuf>,
    /// CAs: with it, only clients with a certificate of one of them are served.
    pub client_ca: Option<PathBuf>,
}

/// What a link needs to speak TLS; the files are in PEM.
#[derive(Clone, Default, Debug)]
pub struct PeerFiles {
    /// The CAs that certificates of peers are of; `system` is the roots of the platform.
    pub ca: Option<PathBuf>,
    /// The certificate that is shown to peers.
    pub cert: Option<PathBuf>,
    /// The key of the certificate.
    pub key: Option<PathBuf>,
    /// The name in the certificates of peers, where it is not the host they are reached at.
    pub name: Option<String>,
}

/// What kind of client a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spoken {
    /// Lines, over TLS 1.3.
    Lines,
    /// HTTP, over TLS 1.2 or 1.3.
    Http,
}
