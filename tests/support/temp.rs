//! Temporary directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new directory, removed with its contents on drop.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("dproxy-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory for the test");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A failure is harmless: no other test uses the name.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A data directory in the flat layout.
pub(crate) struct Data {
    dir: TempDir,
}

impl Data {
    pub(crate) fn empty() -> Self {
        Self { dir: TempDir::new() }
    }

    /// `article/1` to `article/<n>`, each with the text of [`article`].
    pub(crate) fn articles(n: u32) -> Self {
        let data = Self::empty();
        for i in 1..=n {
            data.put(&format!("article/{i}"), article(i).as_bytes());
        }
        data
    }

    /// Stores bytes as the file of a path.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        fs::write(self.file(path), bytes).expect("a file in the data directory");
    }

    /// The file of a path.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.files()(path)
    }

    /// From paths to files.
    pub(crate) fn files(&self) -> impl Fn(&str) -> PathBuf + Send + Sync + 'static {
        let directory = self.dir.path().to_owned();
        move |path| directory.join(format!("{}.json", path.replacen('/', "", 1)))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The text of `article/<i>` in [`Data::articles`], as on the wire.
pub(crate) fn article(i: u32) -> String {
    format!("{{\"id\":\"article/{i}\",\"price\":1.10}}")
}
