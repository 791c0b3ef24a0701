//! A look into a data directory when a node starts: a document to try, or the layout that its files have instead.

use cap_std::fs::Dir;

use super::dir::{DirStore, Layout};
use super::{Store, StoreError};
use crate::wire::KeyBuf;
use crate::wire::escape::encoded;

/// The number of entries that are looked at: a directory may be huge.
const ENTRIES: usize = 1000;
/// The number of documents that are read, to find a sound one.
const READ: usize = 16;

/// What a data directory has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sample {
    /// A document.
    Document(KeyBuf),
    /// No document in its own layout, but files where this one has them.
    OtherLayout(Layout),
    /// Neither of them.
    Nothing,
}

impl DirStore {
    /// Looks for a document among the first entries of the directory.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn sample(&self) -> Result<Sample, StoreError> {
        let tree = self.tree()?;
        let sound =
            keys(&tree.dir, self.layout()).into_iter().take(READ).find(|key| self.read(key.as_key()).is_ok());
        let other = match self.layout() {
            Layout::Flat => Layout::Nested,
            Layout::Nested => Layout::Flat,
        };
        Ok(match sound {
            Some(key) => Sample::Document(key),
            None if !keys(&tree.dir, other).is_empty() => Sample::OtherLayout(other),
            None => Sample::Nothing,
        })
    }
}

/// Keys whose files are there in a layout, those that are easiest to type first.
fn keys(dir: &Dir, layout: Layout) -> Vec<KeyBuf> {
    let mut keys: Vec<KeyBuf> = match layout {
        Layout::Flat => stems(dir).iter().filter_map(|stem| flat_key(stem)).collect(),
        Layout::Nested => names(dir)
            .iter()
            .filter_map(|name| Some((name, dir.open_dir(name).ok()?)))
            .flat_map(|(name, inner)| stems(&inner).into_iter().map(move |stem| format!("{name}/{stem}")))
            .filter_map(|path| KeyBuf::parse(&encoded(&path)).ok())
            .take(ENTRIES)
            .collect(),
    };
    let has_number = |key: &KeyBuf| key.as_str().bytes().any(|byte| byte.is_ascii_digit());
    keys.sort_by_cached_key(|key| (!has_number(key), key.as_str().len(), key.as_str().to_owned()));
    keys
}

/// The names of the first entries.
fn names(dir: &Dir) -> Vec<String> {
    let entries = dir.entries().into_iter().flatten().take(ENTRIES);
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// The names of the first files that may be documents, without `.json`.
fn stems(dir: &Dir) -> Vec<String> {
    names(dir).iter().filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
}

/// A key of a file in the flat layout, where any character may be the first of the key: the first digit, mostly.
fn flat_key(stem: &str) -> Option<KeyBuf> {
    let at = stem.find(|c: char| c.is_ascii_digit()).filter(|&at| at > 0).unwrap_or(1);
    let (resource, name) = stem.split_at_checked(at)?;
    KeyBuf::parse(&encoded(&format!("{resource}/{name}"))).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::origin::store::DirConfig;

    #[test]
    fn a_directory_is_known_by_its_files() {
        let root = std::env::temp_dir().join(format!("dproxy-sample-{}", std::process::id()));
        fs::create_dir_all(root.join("shop")).unwrap();
        let sample = |layout| {
            DirStore::open(&root, DirConfig { layout, ..DirConfig::default() }).unwrap().sample().unwrap()
        };
        let key = |path: &str| Sample::Document(KeyBuf::parse(path).unwrap());
        assert_eq!((sample(Layout::Flat), sample(Layout::Nested)), (Sample::Nothing, Sample::Nothing));
        fs::write(root.join("shop/shoe.json"), "1").unwrap();
        assert_eq!(sample(Layout::Nested), key("shop/shoe"));
        assert_eq!(sample(Layout::Flat), Sample::OtherLayout(Layout::Nested));
        fs::write(root.join("article12.json"), "{").unwrap();
        fs::write(root.join("menu.json"), "1").unwrap();
        assert_eq!(sample(Layout::Flat), key("m/enu"), "the other one is broken");
        fs::write(root.join("article12.json"), "1").unwrap();
        assert_eq!(sample(Layout::Flat), key("article/12"));
        fs::remove_dir_all(root.join("shop")).unwrap();
        assert_eq!(sample(Layout::Nested), Sample::OtherLayout(Layout::Flat));
        fs::remove_dir_all(&root).unwrap();
    }
}
