//! Documents as files beneath a directory. The kernel keeps reads inside it, no check of strings does: `cap-std` opens every
//! file relative to the directory, and neither `..` nor a link leads out of it.

use std::fs::Metadata;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

use super::{Store, StoreError};
use crate::wire::{Document, Key};

/// `O_NONBLOCK`: opening a FIFO must not wait for its writer. The same number on every architecture Linux runs on
/// except MIPS, SPARC, Alpha and PA-RISC.
const NONBLOCK: i32 = 0o4000;
/// Attempts to read a file that changes while it is read.
const READS: usize = 64;

/// The path of a key's file beneath the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `<resource><key>.json`
    Flat,
    /// `<resource>/<key>.json`
    Nested,
}

/// A directory of JSON files.
pub struct DirStore {
    root: Dir,
    layout: Layout,
    max_document: usize,
}

impl DirStore {
    /// Opens the directory. Files larger than `max_document` bytes are not documents.
    ///
    /// # Errors
    /// When it cannot be opened, or its files cannot be looked up (no right to search it).
    pub fn open(path: &Path, layout: Layout, max_document: usize) -> io::Result<Self> {
        let root = Dir::open_ambient_dir(path, ambient_authority())?;
        // Fails now, and not at every request, when files cannot be looked up in it.
        root.metadata(".")?;
        Ok(Self { root, layout, max_document })
    }

    fn path(&self, key: Key<'_>) -> PathBuf {
        let (resource, name) = (key.resource(), key.name());
        match self.layout {
            Layout::Flat => format!("{resource}{name}.json").into(),
            Layout::Nested => format!("{resource}/{name}.json").into(),
        }
    }

    /// Reads the file once; `None` when it changed during the read.
    fn read_once(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let mut options = OpenOptions::new();
        let mut file = self
            .root
            .open_with(path, options.read(true).custom_flags(NONBLOCK))
            .map_err(|error| opened(&error))?
            .into_std();
        let before = file.metadata().map_err(|error| unreadable(&error))?;
        if !before.is_file() {
            return Err(StoreError::Unfit("the document is not a regular file".into()));
        }
        if before.len() > self.max_document as u64 {
            return Err(self.too_large());
        }
        let mut bytes = Vec::with_capacity(before.len() as usize + 1);
        file.by_ref()
            .take(self.max_document as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        if bytes.len() > self.max_document {
            return Err(self.too_large());
        }
        let after = file.metadata().map_err(|error| unreadable(&error))?;
        Ok((version(&before) == version(&after) && after.len() == bytes.len() as u64).then_some(bytes))
    }

    fn too_large(&self) -> StoreError {
        StoreError::Unfit(format!("the document is larger than {} bytes", self.max_document))
    }
}

impl Store for DirStore {
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError> {
        let path = self.path(key);
        for _ in 0..READS {
            // Lets a writer that waits for this core finish.
            std::thread::yield_now();
            if let Some(bytes) = self.read_once(&path)? {
                return Document::parse(&bytes, self.max_document)
                    .map_err(|error| StoreError::Unfit(error.to_string()));
            }
        }
        Err(StoreError::Unfit("the document changes while it is read".into()))
    }
}

/// Length and time of change: at least one differs after a write.
fn version(file: &Metadata) -> (u64, Option<std::time::SystemTime>) {
    (file.len(), file.modified().ok())
}

/// A file that does not exist is missing; one that exists and cannot be opened is unfit.
fn opened(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            StoreError::Missing
        }
        _ => unreadable(error),
    }
}

fn unreadable(error: &io::Error) -> StoreError {
    tracing::debug!(%error, "a document cannot be read");
    StoreError::Unfit("the document cannot be read".into())
}
