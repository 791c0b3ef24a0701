//! TLS of servers and links, out of files.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tracing::warn;

use super::{FIRST_BYTE, Greeted, PeerFiles, ServerFiles, Spoken, Stream, TlsFault, validity};
use crate::certificates::{InUse, Validity};

/// The value of `--peer-ca` that means the roots of the platform.
const SYSTEM: &str = "system";

/// TLS of a server. Clones share what is in force.
#[derive(Clone)]
pub struct ServerTls {
    files: Arc<ServerFiles>,
    acceptors: Arc<ArcSwap<Acceptors>>,
    in_use: InUse,
}

struct Acceptors {
    lines: TlsAcceptor,
    http: TlsAcceptor,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads the files; `None` where there are none.
    ///
    /// # Errors
    /// In a sentence that names the file.
    pub fn load(files: &ServerFiles) -> Result<Option<Self>, String> {
        let Some((acceptors, validity)) = Acceptors::load(files)? else { return Ok(None) };
        let acceptors = Arc::new(ArcSwap::from_pointee(acceptors));
        Ok(Some(Self { files: Arc::new(files.clone()), acceptors, in_use: InUse::new(validity) }))
    }

    /// Reads the files anew, for handshakes from now on.
    ///
    /// # Errors
    /// As [`ServerTls::load`]; then what was in force stays.
    pub fn reload(&self) -> Result<(), String> {
        if let Some((acceptors, validity)) = Acceptors::load(&self.files)? {
            self.acceptors.store(Arc::new(acceptors));
            self.in_use.replace(validity);
        }
        Ok(())
    }

    /// The validity of its certificate.
    pub fn in_use(&self) -> &InUse {
        &self.in_use
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        let ServerFiles { cert, key, client_ca } = &*self.files;
        [cert, key, client_ca].into_iter().flatten().cloned().collect()
    }
}

impl Acceptors {
    fn load(files: &ServerFiles) -> Result<Option<(Self, Validity)>, String> {
        let pair = pair(files.cert.as_deref(), files.key.as_deref(), "--tls-cert", "--tls-key")?;
        let Some(Pair { chain, key, validity }) = pair else {
            return match files.client_ca {
                Some(_) => Err("--tls-client-ca needs --tls-cert and --tls-key".to_owned()),
                None => Ok(None),
            };
        };
        let clients = match &files.client_ca {
            Some(path) => {
                let roots = Arc::new(roots_of(path, "--tls-client-ca")?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                verifier.map_err(|error| {
                    format!("the file {path:?} of --tls-client-ca cannot be used: {error}")
                })?
            }
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let config = |versions, protocols: &[&[u8]]| {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(versions)
                .map_err(|error| format!("TLS cannot be set up: {error}"))?
                .with_client_cert_verifier(clients.clone())
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(|error| unpaired(&error, files.cert.as_deref(), files.key.as_deref()))?;
            // Nothing resumes: rustls stores no sessions by default, and gives no tickets of TLS 1.2.
            config.send_tls13_tickets = 0;
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Ok::<_, String>(TlsAcceptor::from(Arc::new(config)))
        };
        let (lines, http) = (config(&[&TLS13], &[])?, config(&[&TLS13, &TLS12], &[b"h2", b"http/1.1"])?);
        Ok(Some((Self { lines, http }, validity)))
    }
}

impl ServerTls {
    /// Shakes hands; a client whose first byte is not one of TLS is left as it is. With the error comes the stream, on which
    /// an alert may be under way.
    pub(crate) async fn accept(
        &self,
        stream: Stream,
        spoken: Spoken,
    ) -> Result<Greeted, (io::Error, Option<Stream>)> {
        let Stream::Plain(tcp) = stream else { return Ok(Greeted::Ready(stream)) };
        let mut first = [0];
        match tcp.peek(&mut first).await {
            Ok(1..) if first[0] != FIRST_BYTE => return Ok(Greeted::Plain(tcp.into())),
            Ok(1..) => {}
            Ok(0) => return Err((io::ErrorKind::UnexpectedEof.into(), None)),
            Err(error) => return Err((error, None)),
        }
        let acceptors = self.acceptors.load_full();
        let acceptor = match spoken {
            Spoken::Lines => &acceptors.lines,
            Spoken::Http => &acceptors.http,
        };
        // In a box: the task of each connection would hold it to the end.
        match Box::pin(acceptor.accept(tcp).into_fallible()).await {
            Ok(tls) => Ok(Greeted::Ready(Stream::Tls(Box::new(TlsStream::Server(tls))))),
            Err((error, tcp)) => Err((error, Some(tcp.into()))),
        }
    }
}

/// TLS of a link. Clones share what is in force.
#[derive(Clone)]
pub struct PeerTls {
    files: Arc<PeerFiles>,
    connector: Arc<ArcSwap<ClientConfig>>,
    /// The name in the certificates of peers, where it is not their host.
    name: Option<ServerName<'static>>,
    /// The validity of the certificate that is shown, if there is one.
    in_use: Option<InUse>,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerTls")
    }
}

impl PeerTls {
    /// Reads the files; `None` where there are none.
    ///
    /// # Errors
    /// In a sentence that names the file.
    pub fn load(files: &PeerFiles) -> Result<Option<Self>, String> {
        let Some((config, validity)) = Self::config(files)? else { return Ok(None) };
        let name = files.name.as_deref().map(server_name).transpose()?;
        let connector = Arc::new(ArcSwap::from_pointee(config));
        let in_use = validity.map(InUse::new);
        Ok(Some(Self { files: Arc::new(files.clone()), connector, name, in_use }))
    }

    /// Reads the files anew, for handshakes from now on.
    ///
    /// # Errors
    /// As [`PeerTls::load`]; then what was in force stays.
    pub fn reload(&self) -> Result<(), String> {
        if let Some((config, validity)) = Self::config(&self.files)? {
            self.connector.store(Arc::new(config));
            if let (Some(in_use), Some(validity)) = (&self.in_use, validity) {
                in_use.replace(validity);
            }
        }
        Ok(())
    }

    /// The validity of the certificate that is shown to peers, if one is.
    pub fn in_use(&self) -> Option<&InUse> {
        self.in_use.as_ref()
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<PathBuf> {
        let PeerFiles { ca, cert, key, .. } = &*self.files;
        [ca, cert, key].into_iter().flatten().cloned().collect()
    }

    fn config(files: &PeerFiles) -> Result<Option<(ClientConfig, Option<Validity>)>, String> {
        let pair = pair(files.cert.as_deref(), files.key.as_deref(), "--peer-cert", "--peer-key")?;
        let Some(ca) = &files.ca else {
            return match pair.is_some() || files.name.is_some() {
                true => Err("--peer-cert and --peer-name need --peer-ca".to_owned()),
                false => Ok(None),
            };
        };
        let roots = if ca.as_os_str() == SYSTEM { platform()? } else { roots_of(ca, "--peer-ca")? };
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots);
        let validity = pair.as_ref().map(|pair| pair.validity);
        let mut config = match pair {
            Some(Pair { chain, key, .. }) => config
                .with_client_auth_cert(chain, key)
                .map_err(|error| unpaired(&error, files.cert.as_deref(), files.key.as_deref()))?,
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Some((config, validity)))
    }

    /// Shakes hands with the peer at `host`. Errors carry a [`TlsFault`] unless they are of the connection.
    pub(crate) async fn connect(&self, host: &str, stream: Stream) -> io::Result<Stream> {
        let Stream::Plain(tcp) = stream else { return Ok(stream) };
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(|_| TlsFault::WrongName)?,
        };
        let connector = TlsConnector::from(self.connector.load_full());
        let tls = Box::pin(connector.connect(name, tcp)).await.map_err(TlsFault::told)?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(tls))))
    }
}

/// By name: a provider of the process is a matter of whoever embeds this.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name:?} is no name that a certificate can have"))
}

/// A certificate in its time, those between it and its CA, and its key.
struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    validity: Validity,
}

/// The certificate and the key of two files; `None` without both.
fn pair(
    cert: Option<&Path>,
    key: Option<&Path>,
    cert_flag: &str,
    key_flag: &str,
) -> Result<Option<Pair>, String> {
    let (cert, key) = match (cert, key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        _ => return Err(format!("{cert_flag} and {key_flag} go together")),
    };
    let chain = certificates(cert, cert_flag)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let Some(validity) = validity::of_chain(&chain) else {
        return Err(format!("the file {cert:?} of {cert_flag} holds no certificate of X.509"));
    };
    if validity.end < now {
        return Err(format!("the certificate in {cert:?} of {cert_flag} has expired"));
    }
    if validity.begin > now {
        return Err(format!(
            "the certificate in {cert:?} of {cert_flag} is not valid yet; is the clock of this machine right?"
        ));
    }
    if std::fs::metadata(key).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0) {
        warn!("every user of this machine may read the key {key:?} of {key_flag}; chmod 600 it");
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("the file {key:?} of {key_flag} holds no whole key in PEM: {error}"))?;
    Ok(Some(Pair { chain, key, validity }))
}

fn unpaired(error: &Error, cert: Option<&Path>, key: Option<&Path>) -> String {
    let (cert, key) = (cert.unwrap_or(Path::new("")), key.unwrap_or(Path::new("")));
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("the key in {key:?} is not the one of the certificate in {cert:?}")
        }
        _ => format!("the certificate in {cert:?} cannot be used: {error}"),
    }
}

/// All certificates of a file; at least one.
fn certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let unread = |error: &dyn std::fmt::Display| {
        format!("the file {path:?} of {flag} holds no whole certificate in PEM: {error}")
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unread(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unread(&error))?;
    if found.is_empty() { Err(unread(&"there is none")) } else { Ok(found) }
}

fn roots_of(path: &Path, flag: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, flag)? {
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in {path:?} of {flag} cannot be one of a CA: {error}"))?;
    }
    Ok(roots)
}

fn platform() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match added {
        0 => Err(
            "this machine has no root certificates; install ca-certificates, or name a file with --peer-ca"
                .to_owned(),
        ),
        _ => Ok(roots),
    }
}
