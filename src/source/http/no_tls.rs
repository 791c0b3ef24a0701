//! Stands in for TLS in a build without the feature `https`.

use std::path::Path;

use crate::net::transport::Stream;
use crate::source::Unmet;

/// There is none.
pub(super) enum Tls {}

impl Tls {
    /// Fails.
    pub(super) fn new(_host: &str, _ca: Option<&Path>) -> Result<Self, String> {
        Err("this build has no https: build it with the feature https".to_owned())
    }

    /// Cannot be called.
    pub(super) async fn connect(&self, _stream: Stream) -> Result<Stream, Unmet> {
        match *self {}
    }
}
