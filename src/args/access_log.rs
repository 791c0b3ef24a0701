//! The flags of the access log, at every node that listens.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::units;
use crate::access_log::{AccessLogConfig, LineFormat, Target};

/// Where to log requests, in which form, and how many of them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Access log")]
pub struct AccessLogArgs {
    /// Append a line for each request to this file, or to standard output for -; opened anew at SIGHUP. A cluster logs the
    /// requests to its balancer [default: none].
    #[arg(long, env = "DPROXY_ACCESS_LOG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub access_log: Option<PathBuf>,
    /// The form of a line.
    #[arg(long, env = "DPROXY_ACCESS_LOG_FORMAT", default_value_t, value_name = "FORMAT")]
    pub access_log_format: LineFormat,
    /// The share of requests that are logged, chosen at random.
    #[arg(long, env = "DPROXY_ACCESS_LOG_SHARE", default_value = "100%", value_parser = units::fraction, value_name = "PART")]
    pub access_log_share: f64,
}

impl AccessLogArgs {
    /// The log, if there is to be one.
    pub fn config(&self) -> Option<AccessLogConfig> {
        let target = match self.access_log.as_ref()? {
            file if file.as_os_str() == "-" => Target::Stdout,
            file => Target::File(file.clone()),
        };
        Some(AccessLogConfig { target, format: self.access_log_format, share: self.access_log_share })
    }
}
