//! The flags of `dproxy origin`.

use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};

use super::{ChangesArgs, HttpArgs, Listed, Place, ServerArgs, defaults, listed, place, server, units};
use crate::admin::{Admins, Network};
use crate::origin::store::{DirConfig, Layout};
use crate::wire::MAX_DOCUMENT;

/// Flags of `dproxy origin`.
#[derive(Args, Clone, Debug)]
pub struct OriginArgs {
    /// The port to listen on; 0 picks a free one.
    #[arg(long, env = "DPROXY_PORT", default_value = "8000", value_parser = units::port)]
    pub port: u16,
    /// Files and their layout.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The word of changes to proxies.
    #[command(flatten)]
    pub changes: ChangesArgs,
    /// Addresses and networks that may say that a document has changed.
    #[arg(long, env = "DPROXY_ADMIN_FROM", default_value = Admins::default().to_string(), value_delimiter = ',', num_args = 1..,
        value_parser = listed::item(str::parse::<Network>), value_name = "NETWORK", help_heading = server::HEADING)]
    pub admin_from: Vec<Listed<Network>>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// The HTTP front end.
    #[command(flatten)]
    pub http: HttpArgs,
}

/// Where documents are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Documents")]
pub struct StoreArgs {
    /// The directory of the documents; for a cluster the URL of an API as well, in which {path}, {resource} and {key} stand
    /// for those of a document (https://api.example.com/v1/{path}), or of a bucket (s3://bucket/prefix).
    #[arg(long, env = "DPROXY_DATA", default_value = "data", value_parser = place::data, value_name = "DIR|URL", value_hint = ValueHint::DirPath)]
    pub data: Place,
    /// flat: <data>/<resource><key>.json; nested: <data>/<resource>/<key>.json.
    #[arg(long, env = "DPROXY_LAYOUT", default_value = "flat", value_name = "LAYOUT")]
    pub layout: LayoutArg,
    /// The largest document.
    #[arg(long, env = "DPROXY_MAX_DOCUMENT", default_value = defaults::size(MAX_DOCUMENT), value_parser = units::size, value_name = "SIZE")]
    pub max_document: usize,
    /// A file that is missing, empty or cut is looked at again for this time after it or its directory was written to: it
    /// may be replaced right now; 0 is never.
    #[arg(long, env = "DPROXY_SETTLE_TIME", default_value = defaults::time(DirConfig::default().settle_time), value_parser = settle_time, value_name = "TIME")]
    pub settle_time: Duration,
}

impl StoreArgs {
    /// How the documents are read.
    pub fn config(&self) -> DirConfig {
        DirConfig {
            layout: self.layout.into(),
            max_document: self.max_document,
            settle_time: self.settle_time,
        }
    }
}

/// At most half of the time that a read may take.
fn settle_time(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_millis(750);
    let time = units::duration(text)?;
    match time <= LONGEST {
        true => Ok(time),
        false => Err("at the most 750ms: a request must not wait for longer".to_owned()),
    }
}

/// Layouts by name.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum LayoutArg {
    /// `<resource><key>.json`
    Flat,
    /// `<resource>/<key>.json`
    Nested,
}

impl From<LayoutArg> for Layout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::Flat => Layout::Flat,
            LayoutArg::Nested => Layout::Nested,
        }
    }
}
