//! The data directory: whatever stands at its path when a document is read.
//!
//! Publishers re-point a link (`ln -sfn`, git-sync), rename a directory into place, or mount another. A directory that was
//! opened once would go on with the old tree, or with none. Each read compares the identity (device and inode) of what
//! stands at the path with the directory that is open, and opens the new one when they differ. An open directory keeps its
//! inode, so no other one can have the same identity.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt as _};
use tracing::info;

/// Device and inode.
type Identity = (u64, u64);

/// A directory by its path.
pub(super) struct Root {
    path: PathBuf,
    opened: ArcSwap<Tree>,
}

/// A directory that is open.
pub(super) struct Tree {
    pub(super) dir: Dir,
    identity: Identity,
}

impl Root {
    /// Opens the directory.
    ///
    /// # Errors
    /// When it cannot be opened, or its files cannot be looked up (no right to search it).
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let tree = Tree::open(path)?;
        Ok(Self { path: path.to_owned(), opened: ArcSwap::from_pointee(tree) })
    }

    /// The directory that stands at the path now.
    ///
    /// # Errors
    /// When none does, when it cannot be opened, and when it is another one than before and empty: an unmounted disk and
    /// a copy that has not begun look like that, and none of them means that no document exists.
    pub(super) fn now(&self) -> io::Result<Arc<Tree>> {
        let stands = fs::metadata(&self.path)?;
        let opened = self.opened.load_full();
        if opened.identity == (stands.dev(), stands.ino()) {
            return Ok(opened);
        }
        let tree = Tree::open(&self.path)?;
        if tree.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "an empty directory has replaced it"));
        }
        info!(data = %self.path.display(), "the data directory was replaced; documents are read from the new one");
        // Of two readers the later one may store the older directory: the next read sees that and opens the new one again.
        let tree = Arc::new(tree);
        self.opened.store(tree.clone());
        Ok(tree)
    }
}

impl Tree {
    fn open(path: &Path) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        // Fails now, and not at every read, when files cannot be looked up in it.
        dir.metadata(".")?;
        let own = dir.dir_metadata()?;
        Ok(Self { dir, identity: (own.dev(), own.ino()) })
    }

    /// A directory that may not be listed is taken to hold something.
    fn is_empty(&self) -> bool {
        self.dir.entries().is_ok_and(|mut entries| entries.next().is_none())
    }
}
