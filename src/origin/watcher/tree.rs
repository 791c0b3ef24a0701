//! A directory tree under inotify(7).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::statfs::{self, FsType};
use thiserror::Error;

/// What is told of a directory. Not that files are opened and read: this node does that all the time.
const EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_ONLYDIR);

/// File systems whose files only this machine changes, or that are not changed at all (statfs(2)).
const LOCAL: &[FsType] = &[
    statfs::EXT4_SUPER_MAGIC,
    statfs::XFS_SUPER_MAGIC,
    statfs::BTRFS_SUPER_MAGIC,
    statfs::TMPFS_MAGIC,
    statfs::OVERLAYFS_SUPER_MAGIC,
    statfs::F2FS_SUPER_MAGIC,
    statfs::NILFS_SUPER_MAGIC,
    statfs::REISERFS_SUPER_MAGIC,
    statfs::ISOFS_SUPER_MAGIC,
    // ZFS, bcachefs, ramfs, squashfs
    FsType(0x2fc1_2fc1),
    FsType(0xca45_1a4e),
    FsType(0x8584_58f6),
    FsType(0x7371_7368),
];

/// A directory and all beneath it.
pub(super) struct Tree {
    path: PathBuf,
    identity: Identity,
    inotify: Inotify,
    /// The watched directories, by their paths beneath `path`.
    directories: HashMap<WatchDescriptor, PathBuf>,
    /// Whether there are symbolic links: then a change of one file may be one of several documents.
    has_links: bool,
}

/// Device and inode.
type Identity = (u64, u64);

/// What has changed.
pub(super) enum Seen {
    /// These paths, none twice.
    Paths(HashSet<Changed>),
    /// Any may have: events were lost, or links changed.
    Anything,
}

/// A path beneath the directory that was written to, has come or has gone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Changed {
    File(String),
    Directory(String),
}

/// Why a directory cannot be watched.
#[derive(Debug, Error)]
pub(super) enum Unwatchable {
    /// Its file system does not tell of all changes.
    #[error(
        "the file system of {0:?} does not tell of what other machines change; a --ttl bounds how old a document may be"
    )]
    NotTold(PathBuf),
    /// The system refused.
    #[error("{0}")]
    Failed(String),
}

impl Tree {
    /// Watches the directory at a path, and all beneath it.
    pub(super) fn watch(path: &Path) -> Result<Self, Unwatchable> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
        let identity = identity(path).map_err(failed)?;
        let directories = HashMap::new();
        let mut tree = Self { path: path.to_owned(), identity, inotify, directories, has_links: false };
        tree.add(PathBuf::new())?;
        match tree.stands_at_its_path() {
            true => Ok(tree),
            false => Err(Unwatchable::Failed("the directory was replaced".to_owned())),
        }
    }

    /// Whether the directory at the path is still the one that is watched.
    pub(super) fn stands_at_its_path(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.identity)
    }

    /// Watches a directory and those in it. What is in one is listed after it is watched: nothing comes in between.
    fn add(&mut self, directory: PathBuf) -> Result<(), Unwatchable> {
        let mut left = vec![directory];
        while let Some(directory) = left.pop() {
            let path = self.path.join(&directory);
            if !tells(&path) {
                return Err(Unwatchable::NotTold(path));
            }
            let watch = match self.inotify.add_watch(&path, EVENTS) {
                Ok(watch) => watch,
                // It has gone again, as its parent tells.
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(Errno::ENOSPC) => {
                    let why = "there are more directories than fs.inotify.max_user_watches allows";
                    return Err(Unwatchable::Failed(why.to_owned()));
                }
                Err(error) => return Err(failed(error)),
            };
            self.directories.insert(watch, directory.clone());
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            // What cannot be listed may be a directory whose changes nobody would see.
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                self.has_links |= kind.is_symlink();
                if kind.is_dir() {
                    left.push(directory.join(entry.file_name()));
                }
            }
        }
        Ok(())
    }

    /// What has changed since the last call, or within the time `wait`.
    pub(super) fn next(&mut self, wait: Duration) -> Seen {
        let mut paths = HashSet::new();
        if self.is_quiet(wait) {
            return Seen::Paths(paths);
        }
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        if self.see(&event, &mut paths).is_none() {
                            return Seen::Anything;
                        }
                    }
                }
                Err(Errno::EAGAIN) => return Seen::Paths(paths),
                Err(Errno::EINTR) => {}
                Err(_) => return Seen::Anything,
            }
        }
    }

    /// Whether nothing is told for some time.
    fn is_quiet(&self, time: Duration) -> bool {
        let mut events = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        // An error, such as EINTR, is taken for a time without events: the next call sees them.
        !poll(&mut events, time).is_ok_and(|ready| ready > 0)
    }

    /// Notes what an event tells; `None` if any document may have changed.
    fn see(&mut self, event: &InotifyEvent, paths: &mut HashSet<Changed>) -> Option<()> {
        let is = |flag| event.mask.contains(flag);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            return None;
        }
        if is(AddWatchFlags::IN_IGNORED) {
            self.directories.remove(&event.wd);
            return Some(());
        }
        let (Some(directory), Some(name)) = (self.directories.get(&event.wd), &event.name) else {
            return Some(());
        };
        let path = directory.join(name);
        let has_come = is(AddWatchFlags::IN_CREATE) || is(AddWatchFlags::IN_MOVED_TO);
        if is(AddWatchFlags::IN_ISDIR) {
            if has_come {
                self.add(path.clone()).ok()?;
            }
            // No key leads to a name that is not UTF-8.
            paths.extend(path.to_str().map(|path| Changed::Directory(path.to_owned())));
            return (!self.has_links).then_some(());
        }
        let is_link = || fs::symlink_metadata(self.path.join(&path)).is_ok_and(|found| found.is_symlink());
        if self.has_links || has_come && is_link() {
            return None;
        }
        paths.extend(path.to_str().map(|path| Changed::File(path.to_owned())));
        Some(())
    }
}

fn failed(error: impl Into<io::Error>) -> Unwatchable {
    Unwatchable::Failed(error.into().to_string())
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Whether a file system tells of all changes. One that has gone is told of by its parent.
fn tells(path: &Path) -> bool {
    match statfs::statfs(path) {
        Ok(found) => LOCAL.contains(&found.filesystem_type()),
        Err(error) => matches!(error, Errno::ENOENT | Errno::ENOTDIR),
    }
}
