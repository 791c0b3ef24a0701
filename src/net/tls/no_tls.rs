//! TLS in a build without it: there is no value of these types.

use std::io;
use std::path::PathBuf;

use super::{Greeted, PeerFiles, ServerFiles, Spoken};
use crate::certificates::InUse;
use crate::net::transport::Stream;

/// Why files of certificates are of no use here.
const NONE: &str = "this program was built without TLS (the feature https)";

/// TLS of a server.
#[derive(Clone, Debug)]
pub enum ServerTls {}

impl ServerTls {
    /// `None` without files.
    ///
    /// # Errors
    /// With files.
    pub fn load(files: &ServerFiles) -> Result<Option<Self>, String> {
        let any = files.cert.is_some() || files.key.is_some() || files.client_ca.is_some();
        if any { Err(NONE.to_owned()) } else { Ok(None) }
    }

    /// Cannot be called.
    pub fn reload(&self) -> Result<(), String> {
        match *self {}
    }

    /// Cannot be called.
    pub fn files(&self) -> Vec<PathBuf> {
        match *self {}
    }

    /// Cannot be called.
    pub fn in_use(&self) -> &InUse {
        match *self {}
    }

    pub(crate) async fn accept(
        &self,
        _stream: Stream,
        _spoken: Spoken,
    ) -> Result<Greeted, (io::Error, Option<Stream>)> {
        match *self {}
    }
}

/// TLS of a link.
#[derive(Clone, Debug)]
pub enum PeerTls {}

impl PeerTls {
    /// `None` without files.
    ///
    /// # Errors
    /// With files.
    pub fn load(files: &PeerFiles) -> Result<Option<Self>, String> {
        let any = files.ca.is_some() || files.cert.is_some() || files.key.is_some() || files.name.is_some();
        if any { Err(NONE.to_owned()) } else { Ok(None) }
    }

    /// Cannot be called.
    pub fn reload(&self) -> Result<(), String> {
        match *self {}
    }

    /// Cannot be called.
    pub fn files(&self) -> Vec<PathBuf> {
        match *self {}
    }

    /// Cannot be called.
    pub fn in_use(&self) -> Option<&InUse> {
        match *self {}
    }

    pub(crate) async fn connect(&self, _host: &str, _stream: Stream) -> io::Result<Stream> {
        match *self {}
    }
}
