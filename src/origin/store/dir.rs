//! Documents as files beneath a directory. The kernel keeps reads inside it, no check of strings does: `cap-std` opens every
//! file relative to the directory, and neither `..` nor a link leads out of it.

use std::fmt;
use std::fs::Metadata;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cap_std::fs::{OpenOptions, OpenOptionsExt};
use nix::errno::Errno;
use tokio::time::Instant;

use super::absent::Absent;
use super::place::sentence;
use super::root::{Root, Tree};
use super::{Store, StoreError};
use crate::lock::lock;
use crate::wire::{Document, Key, MAX_DOCUMENT, escape};

/// `O_NONBLOCK`: opening a FIFO must not wait for its writer. The same number on every architecture Linux runs on
/// except MIPS, SPARC, Alpha and PA-RISC.
const NONBLOCK: i32 = 0o4000;
/// Attempts to read a file that changes while it is read.
const READS: usize = 64;
/// Attempts to find a file while the directory is replaced.
const TREES: usize = 8;

/// The path of a key's file beneath the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `<resource><key>.json`
    Flat,
    /// `<resource>/<key>.json`
    Nested,
}

impl fmt::Display for Layout {
    /// The value of `--layout`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Flat => "flat",
            Layout::Nested => "nested",
        })
    }
}

impl Layout {
    /// The path of a key's file.
    fn path(self, key: Key<'_>) -> PathBuf {
        let separator = match self {
            Layout::Flat => "",
            Layout::Nested => "/",
        };
        let file = format!("{}{separator}{}.json", key.resource(), key.name());
        escape::decoded(&file).map_or_else(PathBuf::new, |file| file.into_owned().into())
    }
}

/// The settings of a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirConfig {
    /// Where the file of a key is.
    pub layout: Layout,
    /// The largest document in bytes.
    pub max_document: usize,
    /// How long after a write to a file or to its directory a file that is missing or broken is [`StoreError::Settling`]: it
    /// may be replaced right now.
    pub settle_time: Duration,
}

impl Default for DirConfig {
    fn default() -> Self {
        // Far longer than the pause between a delete and a write, far shorter than the deadline of a fetch.
        Self { layout: Layout::Flat, max_document: MAX_DOCUMENT, settle_time: Duration::from_millis(250) }
    }
}

/// A directory of JSON files.
pub struct DirStore {
    root: Root,
    config: DirConfig,
    absent: Absent,
    /// Since when the directory cannot be opened.
    away_since: Mutex<Option<Instant>>,
}

/// The bytes of a file, and when they were written.
struct Text {
    bytes: Vec<u8>,
    written: Option<SystemTime>,
}

impl DirStore {
    /// Opens the directory.
    ///
    /// # Errors
    /// When it cannot be opened, or its files cannot be looked up (no right to search it).
    pub fn open(path: &Path, config: DirConfig) -> io::Result<Self> {
        let root = Root::open(path)?;
        Ok(Self { root, config, absent: Absent::new(), away_since: Mutex::new(None) })
    }

    /// Where the file of a key is.
    pub(super) fn layout(&self) -> Layout {
        self.config.layout
    }

    /// The directory that stands at the path now.
    pub(super) fn tree(&self) -> Result<Arc<Tree>, StoreError> {
        match self.root.now() {
            Ok(tree) => {
                *lock(&self.away_since) = None;
                Ok(tree)
            }
            Err(error) => Err(lacks(&error).unwrap_or_else(|| {
                tracing::debug!(%error, "the data directory cannot be opened");
                self.away()
            })),
        }
    }

    /// The fault of a directory that cannot be opened: in its first moments it may be on its way.
    fn away(&self) -> StoreError {
        let now = Instant::now();
        let since = *lock(&self.away_since).get_or_insert(now);
        let away = StoreError::Away("the data directory of this origin cannot be opened".into());
        settling_if(now.duration_since(since) < self.config.settle_time, away)
    }

    fn read_in(&self, tree: &Tree, path: &Path) -> Result<Document, StoreError> {
        for _ in 0..READS {
            // Lets a writer that waits for this core finish.
            std::thread::yield_now();
            if let Some(Text { bytes, written }) = self.read_once(tree, path)? {
                return Document::parse(&bytes, self.config.max_document).map_err(|error| {
                    let is_new = written.is_some_and(|at| is_younger(at, self.config.settle_time));
                    settling_if(is_new, StoreError::Unfit(sentence(&bytes, error)))
                });
            }
        }
        Err(settling_if(true, StoreError::Unfit("the document changes while it is read".into())))
    }

    /// Reads the file once; `None` when it changed during the read.
    fn read_once(&self, tree: &Tree, path: &Path) -> Result<Option<Text>, StoreError> {
        let mut options = OpenOptions::new();
        let mut file = tree
            .dir
            .open_with(path, options.read(true).custom_flags(NONBLOCK))
            .map_err(|error| self.not_opened(tree, &error))?
            .into_std();
        let before = file.metadata().map_err(|error| unreadable(&error))?;
        if !before.is_file() {
            return Err(StoreError::Unfit("the document is not a regular file".into()));
        }
        if before.len() > self.config.max_document as u64 {
            return Err(self.too_large());
        }
        let mut bytes = Vec::with_capacity(before.len() as usize + 1);
        file.by_ref()
            .take(self.config.max_document as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        if bytes.len() > self.config.max_document {
            return Err(self.too_large());
        }
        let after = file.metadata().map_err(|error| unreadable(&error))?;
        let is_whole = version(&before) == version(&after) && after.len() == bytes.len() as u64;
        Ok(is_whole.then(|| Text { bytes, written: after.modified().ok() }))
    }

    /// A file that does not exist is missing; one that exists and cannot be opened is unfit.
    fn not_opened(&self, tree: &Tree, error: &io::Error) -> StoreError {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
                StoreError::Missing
            }
            // Not the file's fault when no file can be looked up.
            _ if lacks(error).is_none() && tree.dir.metadata(".").is_err() => self.away(),
            _ => unreadable(error),
        }
    }

    /// The fault of a key without a file: for a moment it is taken to be on its way, if something was written to its
    /// directory just now, and the key is not known to have had no file before that.
    fn missing(&self, key: Key<'_>, tree: &Tree, path: &Path) -> StoreError {
        let is_new = |directory: &Path| {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            let written = tree.dir.metadata(directory).and_then(|found| found.modified());
            written.is_ok_and(|at| is_younger(at.into_std(), self.config.settle_time))
        };
        // A link on the way to the file may have been replaced as well.
        if !path.ancestors().skip(1).any(is_new) {
            return StoreError::Missing;
        }
        let now = Instant::now();
        settling_if(
            now.duration_since(self.absent.since(key, now)) < self.config.settle_time,
            StoreError::Missing,
        )
    }

    fn too_large(&self) -> StoreError {
        StoreError::Unfit(format!(
            "the document is larger than {} bytes, the --max-document of this origin",
            self.config.max_document
        ))
    }
}

impl Store for DirStore {
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError> {
        // No file has parameters.
        if key.query().is_some() {
            return Err(StoreError::Missing);
        }
        let path = self.config.layout.path(key);
        let mut tree = self.tree()?;
        for _ in 0..TREES {
            match self.read_in(&tree, &path) {
                Err(StoreError::Missing) => {}
                read => {
                    self.absent.forget(key);
                    return read;
                }
            }
            // The files of a tree that is replaced are removed: missing is what the tree of now does not have.
            let now = self.tree()?;
            if Arc::ptr_eq(&now, &tree) {
                return Err(self.missing(key, &tree, &path));
            }
            tree = now;
        }
        Err(settling_if(true, StoreError::Away("the data directory of this origin changes too often".into())))
    }
}

fn settling_if(is_new: bool, error: StoreError) -> StoreError {
    if is_new { StoreError::Settling(Box::new(error)) } else { error }
}

/// Whether a time of the file system is less than `age` ago. Its clock may be a little ahead, as a server's may be.
fn is_younger(at: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(at).unwrap_or_else(|ahead| ahead.duration()) < age
}

/// Length and time of change: at least one differs after a write.
fn version(file: &Metadata) -> (u64, Option<SystemTime>) {
    (file.len(), file.modified().ok())
}

/// The fault of a process without descriptors or memory, which says nothing about the file.
fn lacks(error: &io::Error) -> Option<StoreError> {
    let lacking = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    let lacks = error.raw_os_error().is_some_and(|code| lacking.contains(&Errno::from_raw(code)));
    lacks.then_some(StoreError::Busy("this origin has no descriptor or no memory left to open a file"))
}

fn unreadable(error: &io::Error) -> StoreError {
    lacks(error).unwrap_or_else(|| {
        tracing::debug!(%error, "a document cannot be read");
        StoreError::Unfit("the document cannot be read".into())
    })
}
