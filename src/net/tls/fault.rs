//! Why a handshake failed, in a sentence.

use std::io;

use thiserror::Error;

/// Why there is no TLS with a peer. Reads as a sentence behind the name of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TlsFault {
    /// The peer sent bytes that are no TLS.
    #[error("it does not speak TLS at this port")]
    NotTls,
    /// The time of the certificate is over.
    #[error("its certificate has expired")]
    Expired,
    /// The time of the certificate has not begun.
    #[error("its certificate is not valid yet; compare the clocks of both machines")]
    NotYetValid,
    /// The certificate is for other names.
    #[error("its certificate is for another name; --peer-name says which name it has")]
    WrongName,
    /// No trusted CA signed the certificate: one of another CA, or one signed by itself.
    #[error("its certificate is not of a CA of --peer-ca, or is signed by itself")]
    UnknownIssuer,
    /// The certificate is one of a CA, used by a server itself.
    #[error("its certificate is one of a CA, not one of a server")]
    IsCa,
    /// Another fault of the certificate.
    #[error("its certificate is not sound")]
    BadCertificate,
    /// The peer wants a certificate, and got none.
    #[error("it serves only clients with a certificate; name one with --peer-cert and --peer-key")]
    WantsCertificate,
    /// The peer does not accept our certificate.
    #[error("it does not accept the certificate of --peer-cert: expired, or not of its --tls-client-ca")]
    Unaccepted,
    /// No version of TLS is common to both.
    #[error("it does not speak TLS 1.3")]
    Version,
    /// Any other end of a handshake.
    #[error("the TLS handshake with it failed")]
    Handshake,
}

impl TlsFault {
    /// The fault behind an error of a stream.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<TlsFault> for io::Error {
    fn from(fault: TlsFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

#[cfg(all(feature = "https", not(sim)))]
mod of_rustls {
    use super::*;
    use tokio_rustls::rustls::{AlertDescription, CertificateError, Error};

    impl TlsFault {
        /// The fault as a link sees it.
        pub(crate) fn of_rustls(error: &Error) -> Self {
            match error {
                Error::InvalidCertificate(error) => Self::of_certificate(error),
                Error::InvalidMessage(_) => Self::NotTls,
                Error::PeerIncompatible(_) => Self::Version,
                Error::AlertReceived(alert) => Self::of_alert(*alert),
                _ => Self::Handshake,
            }
        }

        fn of_certificate(error: &CertificateError) -> Self {
            use CertificateError as Of;
            match error {
                Of::Expired | Of::ExpiredContext { .. } => Self::Expired,
                Of::NotValidYet | Of::NotValidYetContext { .. } => Self::NotYetValid,
                Of::NotValidForName | Of::NotValidForNameContext { .. } => Self::WrongName,
                Of::UnknownIssuer | Of::BadSignature => Self::UnknownIssuer,
                // webpki has no name of its own for it.
                Of::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => Self::IsCa,
                _ => Self::BadCertificate,
            }
        }

        fn of_alert(alert: AlertDescription) -> Self {
            use AlertDescription as Alert;
            match alert {
                Alert::CertificateRequired => Self::WantsCertificate,
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::DecryptError
                | Alert::AccessDenied => Self::Unaccepted,
                Alert::ProtocolVersion => Self::Version,
                _ => Self::Handshake,
            }
        }

        /// The same error, with the fault in place of what rustls says.
        pub(crate) fn told(error: io::Error) -> io::Error {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(inner) => Self::of_rustls(inner).into(),
                None => error,
            }
        }
    }
}
