//! The documents of an origin.

mod absent;
mod dir;
mod memory;
mod place;
mod root;
mod sample;

use thiserror::Error;

pub use dir::{DirConfig, DirStore, Layout};
pub use memory::MemoryStore;
pub use sample::Sample;

use crate::wire::{Document, Key};

/// Documents by their keys. A read may block: the origin runs it on the pool.
pub trait Store: Send + Sync + 'static {
    /// The document as it is now.
    ///
    /// # Errors
    /// One fault for each status; see [`StoreError`].
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError>;
}

/// The reason why there is no document, and whose fault that is. Its text goes to the client: it names no path and no error
/// of the machine.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StoreError {
    /// Nothing is stored under this key: NOT_FOUND.
    #[error("there is no such document")]
    Missing,
    /// The fault of the document, whose text is not one: BAD_DOCUMENT.
    #[error("{0}")]
    Unfit(String),
    /// The fault of the store, which says nothing about any document: ORIGIN_FAILURE.
    #[error("{0}")]
    Away(String),
    /// The fault of this process, which reached a limit: OVERLOADED.
    #[error("{0}")]
    Busy(&'static str),
    /// A fault that may be gone at the next read, because the document is being replaced: what to reply if it is not.
    #[error("{0}")]
    Settling(Box<StoreError>),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What every store keeps; `put` stores a text under a key.
    fn contract(store: &impl Store, put: impl Fn(&str, &[u8])) {
        let read = |key: &str| store.read(Key::parse(key).unwrap());
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
        let open = |layout| {
            let config = DirConfig { layout, max_document: 65_536, settle_time: Duration::ZERO };
            DirStore::open(&root, config).unwrap()
        };
        let nested = open(Layout::Nested);
        contract(&nested, |key, text| std::fs::write(root.join(key).with_extension("json"), text).unwrap());
        let flat = open(Layout::Flat);
        contract(&flat, |key, text| std::fs::write(root.join(key.replace('/', "") + ".json"), text).unwrap());
        std::fs::remove_dir_all(&root).unwrap();
    }
}
