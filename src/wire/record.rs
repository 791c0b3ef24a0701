//! A key, the text of its document, and room for what their holder notes: one allocation, shared by reference count.
//!
//! A cache of millions of small documents is as large as what stands beside them. In one block there is one count, one
//! length and one rounding by the allocator, and a table or a queue leads to it with one word.
//!
//! ```text
//! count 8 │ notes 24 │ length 8 │ length of the key 2 │ key │ text
//! ```

use std::fmt;
use std::sync::atomic::AtomicU32;

use triomphe::{Arc, ThinArc};

/// What the holder of a record notes on it: words without a meaning here.
#[derive(Default, Debug)]
pub struct Notes {
    /// Two words that stay.
    pub long: u64,
    /// The shorter one.
    pub short: u32,
    /// Words that change while the record is shared.
    pub marks: [AtomicU32; 3],
}

/// Bytes of the length of the key.
const PREFIX: usize = 2;
/// The first byte of a stand-in, which no JSON text begins with; the size follows.
const STAND_IN: u8 = 0;

/// A key, a text that may be empty, and notes. A clone costs a reference count.
#[derive(Clone)]
pub struct Record(ThinArc<Notes, u8>);

impl Record {
    /// Bytes of the block beside key and text.
    pub const BESIDE: usize = size_of::<usize>() + size_of::<Notes>() + size_of::<usize>() + PREFIX;

    /// A record of a key, which is shorter than 64 KiB, and a text.
    pub(super) fn new(key: &str, text: &[u8], notes: Notes) -> Self {
        let length = u16::try_from(key.len()).expect("a key is shorter than 64 KiB");
        // The block is filled from one slice: without unsafe code the parts have to meet in a buffer first.
        let mut bytes = Vec::with_capacity(PREFIX + key.len() + text.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(text);
        Self(ThinArc::from_header_and_slice(notes, &bytes))
    }

    /// A record that says how large a document is, and has none: for replays, which would need the memory of the cache that
    /// they simulate.
    pub fn stand_in(key: &str, size: usize, notes: Notes) -> Self {
        let mut text = [STAND_IN; 1 + size_of::<usize>()];
        text[1..].copy_from_slice(&size.to_le_bytes());
        Self::new(key, &text, notes)
    }

    /// This record with other notes, if it is of this key and nobody shares it; else a copy under the key.
    pub(super) fn under(mut self, key: &str, notes: Notes) -> Self {
        if self.key() != key.as_bytes() || self.0.with_arc_mut(|arc| Arc::get_mut(arc).is_none()) {
            return Self::new(key, self.text(), notes);
        }
        self.0.with_arc_mut(|arc| {
            if let Some(own) = Arc::get_mut(arc) {
                *own.header_mut() = notes;
            }
        });
        self
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0.slice[PREFIX..self.start()]
    }

    /// The text; empty if there is none.
    pub fn text(&self) -> &[u8] {
        &self.0.slice[self.start()..]
    }

    /// Whether there is a text.
    pub fn has_text(&self) -> bool {
        self.0.slice.len() > self.start()
    }

    /// Bytes of the text, or of what it stands in for.
    pub fn size(&self) -> usize {
        match self.text().split_first() {
            Some((&STAND_IN, size)) => size.try_into().map_or(0, usize::from_le_bytes),
            _ => self.text().len(),
        }
    }

    /// The notes.
    pub fn notes(&self) -> &Notes {
        &self.0.header.header
    }

    /// Whether both are one record in memory.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.ptr() == other.0.ptr()
    }

    /// How many share it.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        ThinArc::strong_count(&self.0)
    }

    fn start(&self) -> usize {
        PREFIX + usize::from(u16::from_le_bytes([self.0.slice[0], self.0.slice[1]]))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", String::from_utf8_lossy(self.key()), self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_to_it_is_one_word_and_its_head_is_42_bytes() {
        assert_eq!((size_of::<Record>(), size_of::<Option<Record>>(), Record::BESIDE), (8, 8, 42));
    }

    #[test]
    fn key_and_text_are_kept_apart() {
        for (key, text) in [("a/1", "1"), ("", "{}"), ("a/1", ""), (&"k".repeat(512), "[1,2]")] {
            let record = Record::new(key, text.as_bytes(), Notes::default());
            assert_eq!((record.key(), record.text()), (key.as_bytes(), text.as_bytes()));
            assert_eq!(record.size(), text.len());
        }
    }

    #[test]
    fn a_record_of_another_key_or_another_holder_is_copied() {
        let record = Record::new("a/1", b"1", Notes::default());
        let at = record.0.ptr();
        let record = record.under("a/1", Notes { long: 7, ..Notes::default() });
        assert_eq!((record.0.ptr(), record.notes().long), (at, 7), "its own");
        let shared = record.clone();
        assert!(!shared.is_same(&record.clone().under("a/1", Notes::default())) && shared.is_same(&record));
        let other = record.under("a/2", Notes::default());
        assert_eq!((other.key(), other.text(), shared.holders()), (&b"a/2"[..], &b"1"[..], 1));
    }

    #[test]
    fn a_stand_in_has_a_size_and_no_text_of_that_size() {
        let record = Record::stand_in("a/1", 1 << 30, Notes::default());
        assert_eq!((record.size(), record.text().len()), (1 << 30, 9));
    }
}
