//! Why a trace cannot be replayed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{LeftOut, TraceFormat};

/// Why a trace cannot be replayed.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file cannot be opened or read to its end.
    #[error("cannot read the trace {}", path.display())]
    Unreadable {
        /// The trace.
        path: PathBuf,
        /// The system's reason, or the decoder's.
        source: io::Error,
    },
    /// A line is not a key.
    #[error(
        "line {line} of {} {what}: a trace has one key a line, or is an access log in one --trace-format",
        path.display()
    )]
    BadKey {
        /// The trace.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// Why: "is longer than 4096 bytes".
        what: &'static str,
    },
    /// Most lines are none of the log's format.
    #[error(
        "most lines of {}, {others} from line {line} on, are none of {}: give another --trace-format",
        path.display(), format.described()
    )]
    BadLog {
        /// The trace.
        path: PathBuf,
        /// The format it was read in.
        format: TraceFormat,
        /// The first such line, from 1.
        line: u64,
        /// How many there are.
        others: u64,
    },
    /// The file holds no key.
    #[error("the trace {} holds no keys: write one key a line, in the order of the requests", path.display())]
    Empty {
        /// The trace.
        path: PathBuf,
    },
    /// No request of a log counts.
    #[error("no request of the trace {} counts: left out are {left_out}", path.display())]
    AllLeftOut {
        /// The trace.
        path: PathBuf,
        /// Why.
        left_out: LeftOut,
    },
    /// A request lacks what a flag needs.
    #[error(
        "line {line} of {} has no {what}, which {flag} needs: give an access log that has them",
        path.display()
    )]
    Lacks {
        /// The trace.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// A time or a size.
        what: &'static str,
        /// The flag.
        flag: &'static str,
    },
}
