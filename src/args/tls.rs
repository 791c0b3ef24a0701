//! The flags of TLS: of servers, and of links to other nodes.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches, ValueHint};

use crate::net::tls::{PeerFiles, PeerTls, ServerFiles, ServerTls};

/// The heading of these flags in the help.
const HEADING: &str = "TLS";

/// TLS of the listeners, of lines and of HTTP.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = HEADING)]
pub struct TlsArgs {
    /// Serve over TLS with the certificate in this file of PEM, and those between it and its CA behind it: TLS 1.3 for lines,
    /// 1.2 and up for HTTP [default: plain text].
    #[arg(long, env = "DPROXY_TLS_CERT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tls_cert: Option<PathBuf>,
    /// Its key, in PEM [default: none].
    #[arg(long, env = "DPROXY_TLS_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tls_key: Option<PathBuf>,
    /// Serve only clients that have a certificate of a CA in this file [default: all clients].
    #[arg(long, env = "DPROXY_TLS_CLIENT_CA", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tls_client_ca: Option<PathBuf>,
}

/// TLS to other nodes.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = HEADING)]
pub struct PeerArgs {
    /// Ask other nodes over TLS; their certificates must be of a CA in this file, or of one that the system trusts, for
    /// "system" [default: plain text].
    #[arg(long, env = "DPROXY_PEER_CA", value_name = "FILE|system", value_hint = ValueHint::FilePath)]
    pub peer_ca: Option<PathBuf>,
    /// The certificate to show to them, in PEM [default: none].
    #[arg(long, env = "DPROXY_PEER_CERT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub peer_cert: Option<PathBuf>,
    /// Its key, in PEM [default: none].
    #[arg(long, env = "DPROXY_PEER_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub peer_key: Option<PathBuf>,
    /// The name in their certificates [default: the host that each is asked at].
    #[arg(long, env = "DPROXY_PEER_NAME", value_name = "NAME")]
    pub peer_name: Option<String>,
}

impl TlsArgs {
    /// TLS of a server; `None` without these flags.
    ///
    /// # Errors
    /// In a sentence, when a file is not what it should be.
    pub fn load(&self) -> Result<Option<ServerTls>, String> {
        let Self { tls_cert: cert, tls_key: key, tls_client_ca: client_ca } = self.clone();
        ServerTls::load(&ServerFiles { cert, key, client_ca })
    }
}

impl PeerArgs {
    /// TLS of a link; `None` without these flags.
    ///
    /// # Errors
    /// In a sentence, when a file is not what it should be.
    pub fn load(&self) -> Result<Option<PeerTls>, String> {
        let Self { peer_ca: ca, peer_cert: cert, peer_key: key, peer_name: name } = self.clone();
        PeerTls::load(&PeerFiles { ca, cert, key, name })
    }
}

/// Why files of TLS among the values of a role's flags are not what they should be.
pub fn bad_files(matches: &ArgMatches) -> Vec<String> {
    let has = |id| matches.try_contains_id(id).unwrap_or(false);
    let served = ["tls_cert", "tls_key", "tls_client_ca"].into_iter().any(has);
    let asked = ["peer_ca", "peer_cert", "peer_key", "peer_name"].into_iter().any(has);
    let server = served.then(|| TlsArgs::from_arg_matches(matches).ok()).flatten();
    let peer = asked.then(|| PeerArgs::from_arg_matches(matches).ok()).flatten();
    let server = server.and_then(|args| args.load().err());
    server.into_iter().chain(peer.and_then(|args| args.load().err())).collect()
}
