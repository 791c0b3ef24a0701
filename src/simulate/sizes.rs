//! The documents of a replay: made up, and as large as the log tells.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use super::formats::{Request, Size};
use crate::wire::Document;

/// The least and the most bytes of a document that is made up: two quotes, and what no cache keeps.
const LEAST: usize = 2;

/// Sizes by key, and one document of each size. Caches share them, so that a replay of a cache of 1 GiB does not take 1 GiB.
pub(super) struct Sizes {
    hasher: RandomState,
    /// By the hash of the key: those of a long log fit into memory.
    known: HashMap<u64, usize, foldhash::fast::RandomState>,
    sum: u64,
    replies: u64,
    most: usize,
    documents: BTreeMap<usize, Document>,
}

impl Sizes {
    /// Documents of at most `most` bytes: larger ones count as that large.
    pub(super) fn new(most: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            known: HashMap::default(),
            sum: 0,
            replies: 0,
            most: most.max(LEAST),
            documents: BTreeMap::new(),
        }
    }

    /// The document of a request. A reply without a body has the size of the last one of its key with a body, or the mean of
    /// all so far.
    pub(super) fn document(&mut self, request: &Request) -> Option<Document> {
        let hash = self.hasher.hash_one(&request.key);
        let size = match request.size {
            Size::Bytes(bytes) => {
                let size = usize::try_from(bytes).unwrap_or(usize::MAX).clamp(LEAST, self.most);
                self.known.insert(hash, size);
                (self.sum, self.replies) = (self.sum + size as u64, self.replies + 1);
                size
            }
            Size::NoBody | Size::Unlogged => {
                let mean = self.sum.checked_div(self.replies).unwrap_or_default() as usize;
                self.known.get(&hash).copied().unwrap_or(mean.max(LEAST))
            }
        };
        let class = class(size);
        match self.documents.entry(class) {
            Entry::Occupied(made) => Some(made.get().clone()),
            Entry::Vacant(place) => {
                let text = format!("\"{}\"", "x".repeat(class - 2));
                Some(place.insert(Document::parse(text.as_bytes(), class).ok()?).clone())
            }
        }
    }
}

/// The largest size that takes the same block of memory in a cache: there are a hundred of them, not one a document.
fn class(size: usize) -> usize {
    /// The two counts of an `Arc`, in front of the text.
    const COUNTS: usize = 16;
    let block = size + COUNTS;
    block.next_multiple_of((block.next_power_of_two() / 8).max(16)) - COUNTS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::cache::{self, Millis};

    fn request(key: &str, size: Size) -> Request {
        Request { key: key.into(), at: None, size }
    }

    #[test]
    fn a_document_weighs_what_one_of_the_size_in_the_log_would() {
        let mut sizes = Sizes::new(1 << 20);
        let weight =
            |document| cache::Entry::new("a", Some(document), Millis(0), None, Duration::ZERO).weight();
        for size in (2..3000).chain([4096, 10_000, 65_535, 65_536, 1_000_000]) {
            let text = format!("\"{}\"", "x".repeat(size - 2));
            let real = Document::parse(text.as_bytes(), size).expect("a text");
            let made = sizes.document(&request("a", Size::Bytes(size as u64))).expect("a document");
            assert_eq!(weight(made), weight(real), "{size} bytes");
        }
        assert!(sizes.documents.len() < 100, "{} sizes", sizes.documents.len());
    }

    #[test]
    fn a_reply_without_a_body_has_the_size_of_the_last_with_one() {
        let mut sizes = Sizes::new(10_000);
        let mut size = |key: &str, size| sizes.document(&request(key, size)).expect("a document").len();
        assert_eq!(size("a", Size::NoBody), class(2), "nothing is known yet");
        assert_eq!(size("a", Size::Bytes(1000)), class(1000));
        assert_eq!(size("b", Size::Bytes(3000)), class(3000));
        assert_eq!((size("a", Size::NoBody), size("c", Size::NoBody)), (class(1000), class(2000)));
        assert_eq!(size("d", Size::Bytes(u64::MAX)), class(10_000));
    }
}
