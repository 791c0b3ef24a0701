//! Which nodes an operator has drained, kept over a restart of the balancer: one text file in `--state-dir`.
//!
//! ```text
//! dproxy drained 1
//! 10.0.0.1:8001
//! end 1
//! ```
//! The last line counts the nodes, so that a file that was cut short is not taken for a whole one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::warn;

use super::owed_file::replace;
use crate::lock::lock;

/// The first line.
const HEAD: &str = "dproxy drained 1";
/// The largest file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The file.
pub(super) struct DrainedFile {
    path: PathBuf,
    /// One write at a time, each of what is drained when it begins.
    writing: Mutex<()>,
}

impl DrainedFile {
    pub(super) fn within(directory: &Path) -> Self {
        Self { path: directory.join("drained"), writing: Mutex::new(()) }
    }

    /// The names that it holds; none when there is no such file. One that cannot be used is logged and means none, too.
    pub(super) fn read(&self) -> BTreeSet<String> {
        let read = || -> Result<BTreeSet<String>, String> {
            let mut text = String::new();
            let file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
                file => file.map_err(|error| error.to_string())?,
            };
            file.take(LARGEST).read_to_string(&mut text).map_err(|error| error.to_string())?;
            parse(&text).ok_or_else(|| "it is not a whole list of nodes".to_owned())
        };
        read().unwrap_or_else(|error| {
            warn!(file = %self.path.display(), error, "the drained nodes cannot be read: drain them again");
            BTreeSet::new()
        })
    }

    /// Writes the names by now, for good. False if that failed, which is logged. Blocks.
    pub(super) fn write(&self, names: impl FnOnce() -> BTreeSet<String>) -> bool {
        let _writing = lock(&self.writing);
        let written = replace(&self.path, &text(&names()));
        if let Err(error) = &written {
            warn!(file = %self.path.display(), %error, "the drained nodes cannot be written: a restart forgets them");
        }
        written.is_ok()
    }
}

fn text(names: &BTreeSet<String>) -> String {
    let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
    format!("{HEAD}\n{lines}end {}\n", names.len())
}

/// `None` unless the text is whole.
fn parse(text: &str) -> Option<BTreeSet<String>> {
    let mut lines: Vec<&str> =
        text.strip_prefix(HEAD)?.strip_prefix('\n')?.strip_suffix('\n')?.split('\n').collect();
    let end = lines.pop()?;
    (end == format!("end {}", lines.len())).then(|| lines.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_cut_is_refused() {
        for names in [&[][..], &["a:1"], &["[::1]:2", "a:1"]] {
            let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let whole = text(&names);
            assert_eq!(parse(&whole), Some(names));
            (0..whole.len()).for_each(|end| assert_eq!(parse(&whole[..end]), None, "{:?}", &whole[..end]));
        }
    }
}
