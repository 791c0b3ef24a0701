//! The sizes of the documents of a replay, as the log tells them.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use super::formats::{Request, Size};

/// The least bytes of a document: `{}`.
const LEAST: usize = 2;

/// Sizes by key.
pub(super) struct Sizes {
    hasher: RandomState,
    /// By the hash of the key: those of a long log fit into memory.
    known: HashMap<u64, usize, foldhash::fast::RandomState>,
    sum: u64,
    replies: u64,
    most: usize,
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
        }
    }

    /// The size of the document of a request. A reply without a body has that of the last one of its key with a body, or the
    /// mean of all so far.
    pub(super) fn size(&mut self, request: &Request) -> usize {
        let hash = self.hasher.hash_one(&request.key);
        match request.size {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str, size: Size) -> Request {
        Request { key: key.into(), at: None, size }
    }

    #[test]
    fn a_reply_without_a_body_has_the_size_of_the_last_with_one() {
        let mut sizes = Sizes::new(10_000);
        let mut size = |key: &str, size| sizes.size(&request(key, size));
        assert_eq!(size("a", Size::NoBody), 2, "nothing is known yet");
        assert_eq!(size("a", Size::Bytes(1000)), 1000);
        assert_eq!(size("b", Size::Bytes(3000)), 3000);
        assert_eq!((size("a", Size::NoBody), size("c", Size::NoBody)), (1000, 2000));
        assert_eq!(size("d", Size::Bytes(u64::MAX)), 10_000);
    }
}
