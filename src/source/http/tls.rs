//! TLS to an API: rustls over aws-lc-rs, with the roots of the platform or those of a file.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::net::LinkError;
use crate::net::transport::Stream;
use crate::source::Unmet;

/// How to speak TLS to one host.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// For `host`, which a root of `ca` must vouch for, or one of the platform's.
    ///
    /// # Errors
    /// In a sentence, when there are no roots, or the host is no name.
    pub(super) fn new(host: &str, ca: Option<&Path>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host:?} is no name that a certificate can have"))?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(match ca {
            Some(path) => of_file(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        });
        match (added, ca) {
            (0, None) => {
                return Err("this machine has no root certificates; install ca-certificates, or name a file with --origin-ca".to_owned());
            }
            (0, Some(path)) => {
                return Err(format!("the file {path:?} of --origin-ca holds no certificate in PEM"));
            }
            _ => {}
        }
        // By name: a provider of the process is a matter of whoever embeds this.
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands. A certificate that is not accepted says nothing of any document.
    pub(super) async fn connect(&self, stream: Stream) -> Result<TlsStream<Stream>, Unmet> {
        self.connector.connect(self.name.clone(), stream).await.map_err(|error| {
            tracing::debug!(%error, "no TLS with an API");
            let of_tls = error.get_ref().is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>());
            match of_tls {
                true => {
                    Unmet::NoAnswer(LinkError::Garbage, format!("no TLS with the origin: {error}").into())
                }
                false => Unmet::of(LinkError::Broken),
            }
        })
    }
}

fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unread =
        |error: &dyn std::fmt::Display| format!("the file {path:?} of --origin-ca cannot be read: {error}");
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unread(&error))?;
    certificates.collect::<Result<_, _>>().map_err(|error| unread(&error))
}
