//! What nodes owe, kept over a restart of the balancer: one text file in `--state-dir`.
//!
//! ```text
//! dproxy owed 1
//! 10.0.0.1:8001 article/*
//! 10.0.0.1:8001 soft article/7
//! end 2
//! ```
//! The last line counts the purges, so that a file that was cut short is not taken for a whole one.

use std::collections::BTreeMap;
use std::fs::{File, create_dir_all, rename};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::warn;

use super::owed::Owed;
use crate::lock::lock;
use crate::wire::Pattern;

/// The first line.
const HEAD: &str = "dproxy owed 1";
/// The largest file, in bytes.
const LARGEST: usize = 16 << 20;

/// What each node owes, by its address.
pub(super) type Debts = BTreeMap<String, Owed>;

/// The file.
pub(super) struct OwedFile {
    path: PathBuf,
    /// One write at a time, each of what is owed when it begins. Holds whether the last one failed.
    writing: Mutex<bool>,
}

impl OwedFile {
    pub(super) fn within(directory: &Path) -> Self {
        Self { path: directory.join("owed"), writing: Mutex::new(false) }
    }

    /// What it holds; nothing when there is no such file. One that cannot be used is logged and means nothing, too.
    pub(super) fn read(&self) -> Debts {
        let read = || -> Result<Debts, String> {
            let (mut text, shown) = (String::new(), |error: io::Error| error.to_string());
            let file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Debts::new()),
                file => file.map_err(shown)?,
            };
            file.take(LARGEST as u64).read_to_string(&mut text).map_err(shown)?;
            parse(&text).ok_or_else(|| "it is not a whole list of purges".to_owned())
        };
        read().unwrap_or_else(|error| {
            let file = self.path.display();
            warn!(%file, error, "the purges that nodes owe cannot be read: purge again what was purged while a node was down");
            Debts::new()
        })
    }

    /// Writes what is owed by now, for good: true when it would survive a crash of the machine. Blocks.
    pub(super) fn write(&self, debts: impl FnOnce() -> Debts) -> bool {
        let mut has_failed = lock(&self.writing);
        let text = text(&debts());
        let written = match text.len() > LARGEST {
            true => Err(io::Error::other("more is owed than fits")),
            false => replace(&self.path, &text),
        };
        if let (Err(error), false) = (&written, *has_failed) {
            warn!(file = %self.path.display(), %error, "the purges that nodes owe cannot be written: a restart forgets them");
        }
        *has_failed = written.is_err();
        written.is_ok()
    }
}

/// Replaces the file whole: a crash leaves the old one or the new one.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let (directory, new) = (path.parent().unwrap_or(Path::new(".")), path.with_extension("new"));
    create_dir_all(directory)?;
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    rename(&new, path)?;
    // The name is an entry of the directory.
    File::open(directory)?.sync_all()
}

fn text(debts: &Debts) -> String {
    let (mut text, mut count) = (format!("{HEAD}\n"), 0);
    for (node, owed) in debts {
        for (pattern, soft) in owed.purges() {
            count += 1;
            text += &format!("{node} {}{pattern}\n", if *soft { "soft " } else { "" });
        }
    }
    text + &format!("end {count}\n")
}

/// `None` unless every line is right.
fn parse(text: &str) -> Option<Debts> {
    let lines = text.strip_prefix(HEAD)?.strip_prefix('\n')?;
    let (lines, end) = match lines.strip_suffix('\n')?.rsplit_once('\n') {
        Some((lines, end)) => (lines.lines().collect(), end),
        None => (Vec::new(), &lines[..lines.len() - 1]),
    };
    if end != format!("end {}", lines.len()) {
        return None;
    }
    let mut debts = Debts::new();
    for line in lines {
        let (node, purge) = line.split_once(' ')?;
        let (pattern, soft) = purge.strip_prefix("soft ").map_or((purge, false), |pattern| (pattern, true));
        let owed = debts.entry(node.to_owned()).or_default();
        owed.add(Pattern::parse(pattern).ok()?, soft).then_some(())?;
    }
    Some(debts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debts() -> Debts {
        let mut debts = Debts::new();
        for (node, pattern, soft) in
            [("a:1", "r/*", false), ("a:1", "r/7", true), ("[::1]:2", "x/y/*", false)]
        {
            debts.entry(node.to_owned()).or_default().add(Pattern::parse(pattern).unwrap(), soft);
        }
        debts
    }

    #[test]
    fn what_was_written_is_read_again() {
        for debts in [Debts::new(), debts()] {
            let written = text(&debts);
            assert_eq!(text(&parse(&written).unwrap()), written);
        }
        assert_eq!(text(&debts()), "dproxy owed 1\n[::1]:2 x/y/*\na:1 r/*\na:1 soft r/7\nend 3\n");
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_refused() {
        let whole = text(&debts());
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_none(), "{:?}", &whole[..end]);
        }
        for (from, to) in [("end 3", "end 2"), (" r/*", " r/../*"), ("a:1 r", "a:1"), ("owed 1", "owed 2")] {
            assert!(parse(&whole.replacen(from, to, 1)).is_none(), "{to}");
        }
    }
}
