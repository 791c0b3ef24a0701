//! Sees that files of a data directory change, and tells the log: by inotify(7), in a thread of its own.
//!
//! ```text
//!   a file is written, moved, removed      its keys
//!   a directory comes or goes              the prefixes of its files
//!   events were lost, a link changed,      a new epoch: any document may have changed
//!   another directory stands at the path
//! ```
//! Where a file system does not tell of what other machines change (NFS, FUSE), nobody vouches for anything, and changes
//! are seen when a time to live ends.

#[cfg(all(target_os = "linux", not(sim)))]
mod names;
#[cfg(all(target_os = "linux", not(sim)))]
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::changes::Changes;
use super::store::Layout;

/// Watches the directory at `path` for as long as `changes` is in use.
///
/// # Errors
/// When no thread can be started.
#[cfg(all(target_os = "linux", not(sim)))]
pub fn start(path: &Path, layout: Layout, changes: &Arc<Changes>) -> io::Result<()> {
    let (path, changes) = (path.to_owned(), Arc::downgrade(changes));
    // Until the first look at the directory has ended.
    if let Some(changes) = changes.upgrade() {
        changes.lose_track();
    }
    std::thread::Builder::new()
        .name("watcher".to_owned())
        .spawn(move || run::run(&path, layout, &changes))?;
    Ok(())
}

/// Nothing is watched on other systems.
///
/// # Errors
/// None.
#[cfg(not(all(target_os = "linux", not(sim))))]
pub fn start(_: &Path, _: Layout, _: &Arc<Changes>) -> io::Result<()> {
    Ok(())
}

#[cfg(all(target_os = "linux", not(sim)))]
mod run {
    use std::path::Path;
    use std::sync::Weak;
    use std::thread::sleep;
    use std::time::Duration;

    use tokio::time::Instant;
    use tracing::{info, warn};

    use super::super::changes::Changes;
    use super::super::store::Layout;
    use super::names::Names;
    use super::tree::{Seen, Tree, Unwatchable};

    /// How often the directory that stands at the path is compared with the one that is watched.
    const LOOKS_EVERY: Duration = Duration::from_millis(50);
    /// After a change that may concern any document, the next look begins when nothing has changed for the former time, or
    /// after the latter.
    const QUIET: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
    /// How long to wait after a directory could not be watched.
    const TRIED_AGAIN: Duration = Duration::from_secs(1);

    /// Ends what is promised if the thread dies.
    struct Promise<'a>(&'a Weak<Changes>);

    impl Drop for Promise<'_> {
        fn drop(&mut self) {
            if let Some(changes) = self.0.upgrade() {
                changes.end();
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a thread of its own has nothing else to do")]
    pub(super) fn run(path: &Path, layout: Layout, changes: &Weak<Changes>) {
        let _promise = Promise(changes);
        let mut complained = false;
        while let Some(log) = changes.upgrade() {
            match Tree::watch(path) {
                Ok(tree) => {
                    if std::mem::take(&mut complained) {
                        info!(data = %path.display(), "changes of documents are seen again");
                    }
                    log.begin();
                    drop(log);
                    follow(tree, layout, changes);
                }
                Err(error) => {
                    match error {
                        Unwatchable::NotTold(_) => log.end(),
                        Unwatchable::Failed(_) => log.lose_track(),
                    }
                    drop(log);
                    if !std::mem::replace(&mut complained, true) {
                        warn!(data = %path.display(), "changes of documents are not told: {error}");
                    }
                    sleep(TRIED_AGAIN);
                }
            }
        }
    }

    /// Tells what changes in a tree, until anything may have.
    fn follow(mut tree: Tree, layout: Layout, changes: &Weak<Changes>) {
        let mut looked = Instant::now();
        loop {
            let seen = tree.next(LOOKS_EVERY);
            let Some(log) = changes.upgrade() else { return };
            let names = Names { layout, may_be_held: &|resource| log.may_be_held(resource) };
            match seen {
                Seen::Paths(paths) => {
                    let names: Vec<String> = paths.iter().flat_map(|path| names.of(path)).collect();
                    if !names.is_empty() {
                        log.add(names);
                    }
                }
                Seen::Anything => break log.lose_track(),
            }
            if looked.elapsed() >= LOOKS_EVERY {
                if !tree.stands_at_its_path() {
                    break log.lose_track();
                }
                looked = Instant::now();
            }
        }
        let until = Instant::now() + QUIET.1;
        let mut is_quiet = || matches!(tree.next(QUIET.0), Seen::Paths(paths) if paths.is_empty());
        while Instant::now() < until && !is_quiet() {}
    }
}

#[cfg(all(test, target_os = "linux", not(sim)))]
mod tests;
