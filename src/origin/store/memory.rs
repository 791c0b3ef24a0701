//! Documents in memory: for programs that embed an origin, and for tests.

use dashmap::DashMap;

use super::place::sentence;
use super::{Store, StoreError};
use crate::wire::{Document, Key};

/// A map from keys to texts.
pub struct MemoryStore {
    texts: DashMap<String, Vec<u8>>,
    max_document: usize,
}

impl MemoryStore {
    /// An empty store whose documents are at most `max_document` bytes.
    pub fn new(max_document: usize) -> Self {
        Self { texts: DashMap::new(), max_document }
    }

    /// Stores a text under `<resource>/<key>`. It is checked when it is read, as a file would be.
    pub fn put(&self, key: &str, text: impl Into<Vec<u8>>) {
        self.texts.insert(key.to_owned(), text.into());
    }

    /// Removes a text.
    pub fn remove(&self, key: &str) {
        self.texts.remove(key);
    }
}

impl Store for MemoryStore {
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError> {
        let text = self.texts.get(key.as_str()).ok_or(StoreError::Missing)?;
        Document::parse(&text, self.max_document).map_err(|error| StoreError::Unfit(sentence(&text, error)))
    }
}
