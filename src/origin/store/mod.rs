//! The documents of an origin.

mod dir;
mod memory;

use thiserror::Error;

pub use dir::{DirStore, Layout};
pub use memory::MemoryStore;

use crate::wire::{Document, Key};

/// Documents by their keys. A read may block: the origin runs it on the pool.
pub trait Store: Send + Sync + 'static {
    /// The document as it is now.
    ///
    /// # Errors
    /// `Missing` for NOT_FOUND, `Unfit` for BAD_DOCUMENT.
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError>;
}

/// The reason why there is no document.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StoreError {
    /// Nothing is stored under this key.
    #[error("there is no such document")]
    Missing,
    /// The stored text is not a document. The reason goes to the client: it names no path and no error of the machine.
    #[error("{0}")]
    Unfit(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every store keeps; `put` stores a text under a key.
    fn contract(store: &impl Store, put: impl Fn(&str, &[u8])) {
        let read = |key: &str| store.read(Key::parse(key.as_bytes()).unwrap());
        assert_eq!(read("article/1"), Err(StoreError::Missing));
        put("article/1", b"{ \"n\": 1.10 }\n");
        assert_eq!(read("article/1").unwrap().as_str(), "{\"n\":1.10}");
        put("article/1", b"[2]");
        assert_eq!(read("article/1").unwrap().as_str(), "[2]", "a change is seen by the next read");
        assert_eq!(read("article/2"), Err(StoreError::Missing));
        for bad in [&b""[..], b"{", b"NaN", b"{}{}", b"\"\xff\"", &[b'['; 200_000], &[b' '; 70_000]] {
            put("article/1", bad);
            assert!(matches!(read("article/1"), Err(StoreError::Unfit(_))), "{:?}", &bad[..bad.len().min(8)]);
        }
    }

    #[test]
    fn memory_keeps_the_contract() {
        let store = MemoryStore::new(65_536);
        contract(&store, |key, text| store.put(key, text));
    }

    #[test]
    fn dir_keeps_the_contract() {
        let root = std::env::temp_dir().join(format!("dproxy-store-{}", std::process::id()));
        std::fs::create_dir_all(root.join("article")).unwrap();
        let nested = DirStore::open(&root, Layout::Nested, 65_536).unwrap();
        contract(&nested, |key, text| std::fs::write(root.join(key).with_extension("json"), text).unwrap());
        let flat = DirStore::open(&root, Layout::Flat, 65_536).unwrap();
        contract(&flat, |key, text| std::fs::write(root.join(key.replace('/', "") + ".json"), text).unwrap());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
