//! Files that are saved, moved and removed in many ways, in a real directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::super::changes::Changes;
use super::*;
use crate::wire::{Batch, Key, Position, Watch};

/// A directory under watch, and the position up to which its changes were read.
struct Watched {
    root: PathBuf,
    changes: Arc<Changes>,
    position: Option<Position>,
    runtime: tokio::runtime::Runtime,
}

impl Watched {
    fn new(name: &str, layout: Layout, prepare: impl FnOnce(&Path)) -> Self {
        let root = std::env::temp_dir().join(format!("dproxy-watcher-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("data")).unwrap();
        prepare(&root.join("data"));
        let changes = Changes::new(Duration::from_secs(2));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        start(&root.join("data"), layout, &changes).unwrap();
        let mut watched = Self { root, changes, position: None, runtime };
        assert!(watched.next().reset);
        watched
    }

    fn data(&self, path: &str) -> PathBuf {
        self.root.join("data").join(path)
    }

    /// The next batch with a lease that tells of something.
    fn next(&mut self) -> Batch {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < end, "nothing is told");
            let watch = Watch { since: self.position, wait: Duration::from_secs(5), by: Some(1) };
            let line = self.runtime.block_on(self.changes.clone().watch(watch)).to_line();
            let mut reply: serde_json::Value = serde_json::from_str(&line).unwrap();
            let batch: Batch = serde_json::from_value(reply["data"].take()).unwrap();
            if batch.lease_ms > 0 {
                self.position = Some(batch.position());
                if batch.reset || !batch.changes.is_empty() {
                    return batch;
                }
            }
        }
    }

    /// Waits until a name is told.
    fn wait_for(&mut self, name: &str) {
        loop {
            let batch = self.next();
            assert!(!batch.reset, "{name} is told by itself");
            if batch.changes.iter().any(|told| told == name) {
                return;
            }
        }
    }

    /// Waits until anything may have changed.
    fn wait_for_reset(&mut self) {
        while !self.next().reset {}
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn each_way_of_saving_a_file_is_told() {
    let mut watched = Watched::new("saving", Layout::Nested, |data| {
        fs::create_dir(data.join("article")).unwrap();
        fs::write(data.join("article/1.json"), "1").unwrap();
    });
    let file = watched.data("article/1.json");
    fs::write(&file, "2").unwrap();
    watched.wait_for("article/1");
    fs::write(watched.data("article/.1.tmp"), "3").unwrap();
    fs::rename(watched.data("article/.1.tmp"), &file).unwrap();
    watched.wait_for("article/1");
    fs::rename(&file, watched.data("article/1.json~")).unwrap();
    watched.wait_for("article/1");
    fs::write(&file, "4").unwrap();
    watched.wait_for("article/1");
    fs::remove_file(&file).unwrap();
    watched.wait_for("article/1");
}

#[test]
fn a_file_in_a_directory_that_has_just_come_is_told() {
    let mut watched = Watched::new("directories", Layout::Nested, |_| {});
    fs::create_dir_all(watched.data("shop/eu")).unwrap();
    watched.wait_for("shop/*");
    fs::write(watched.data("shop/eu/1.json"), "1").unwrap();
    watched.wait_for("shop/eu/1");
    fs::rename(watched.data("shop"), watched.data("store")).unwrap();
    watched.wait_for("store/*");
    fs::write(watched.data("store/eu/1.json"), "2").unwrap();
    watched.wait_for("store/eu/1");
}

#[test]
fn a_flat_file_is_told_under_the_resources_that_were_asked_for() {
    let mut watched =
        Watched::new("flat", Layout::Flat, |data| fs::write(data.join("article1.json"), "1").unwrap());
    watched.changes.note(Key::parse("article/7").unwrap());
    fs::write(watched.data("article1.json"), "2").unwrap();
    assert_eq!(watched.next().changes, ["article/1"]);
}

#[test]
fn a_link_that_is_pointed_elsewhere_may_change_anything() {
    let mut watched = Watched::new("links", Layout::Nested, |data| {
        for (release, text) in [("..r1", "1"), ("..r2", "2")] {
            fs::create_dir(data.join(release)).unwrap();
            fs::write(data.join(release).join("1.json"), text).unwrap();
        }
        symlink("..r1", data.join("article")).unwrap();
    });
    symlink("..r2", watched.data("article.new")).unwrap();
    fs::rename(watched.data("article.new"), watched.data("article")).unwrap();
    watched.wait_for_reset();
    fs::write(watched.data("..r2/1.json"), "3").unwrap();
    watched.wait_for_reset();
}

#[test]
fn a_file_that_is_reached_through_a_directory_of_another_alphabet_is_seen() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b"\xff");
    let mut watched = Watched::new("bytes", Layout::Nested, |data| {
        fs::create_dir(data.join(name)).unwrap();
        symlink(name, data.join("article")).unwrap();
    });
    fs::write(watched.root.join("data").join(name).join("1.json"), "1").unwrap();
    watched.wait_for_reset();
}

#[test]
fn another_directory_at_the_path_may_change_anything() {
    let mut watched =
        Watched::new("root", Layout::Nested, |data| fs::create_dir(data.join("article")).unwrap());
    fs::create_dir_all(watched.root.join("new/article")).unwrap();
    fs::rename(watched.data(""), watched.root.join("old")).unwrap();
    fs::rename(watched.root.join("new"), watched.root.join("data")).unwrap();
    watched.wait_for_reset();
    fs::write(watched.data("article/1.json"), "1").unwrap();
    watched.wait_for("article/1");
}
