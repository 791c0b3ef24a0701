//! The file that lists the proxies.

use std::fs::{File, metadata};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

/// The largest file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The content of the file, or why it could not be read.
pub(super) type FileText = Result<String, String>;

/// When a file was last written to.
pub(super) fn written(path: &Path) -> Option<SystemTime> {
    metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Reads a file of at most 1 MiB.
pub(super) fn read(path: &Path) -> FileText {
    let (shown, mut text) = (|error: io::Error| error.to_string(), String::new());
    // Asked before it is opened: opening a pipe may wait for ever.
    if !metadata(path).map_err(shown)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    // Bounded as well as checked: the file may grow while it is read.
    let bounded = File::open(path).map_err(shown)?.take(LARGEST + 1);
    match BufReader::new(bounded).read_to_string(&mut text).map_err(shown)? as u64 > LARGEST {
        true => Err("it is larger than 1 MiB".to_owned()),
        false => Ok(text),
    }
}
