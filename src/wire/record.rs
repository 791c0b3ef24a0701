//! A key, the text of its document, and room for what their holder notes: one allocation, shared by reference count. A label
//! is what the holder keeps of few records only: bytes that all others have no room for.
//!
//! A cache of millions of small documents is as large as what stands beside them. In one block there is one count, one
//! length and one rounding by the allocator, and a table or a queue leads to it with one word.
//!
//! ```text
//! count 8 │ notes 24 │ length 8 │ length of the key 2 │ key │ text                              without a label
//! count 8 │ notes 24 │ length 8 │ length of the key 2 │ key │ length of the label 2 │ label │ text
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

/// Bytes of the length of the key, and of that of the label.
const PREFIX: usize = 2;
/// Set in the length of the key where a label follows the key.
const LABELLED: u16 = 1 << 15;
/// The first byte of a stand-in, which no JSON text begins with; the size follows.
const STAND_IN: u8 = 0;

/// A key, a label and a text, which may be empty, and notes. A clone costs a reference count.
#[derive(Clone)]
pub struct Record(ThinArc<Notes, u8>);

impl Record {
    /// Bytes of the block beside key and text.
    pub const BESIDE: usize = size_of::<usize>() + size_of::<Notes>() + size_of::<usize>() + PREFIX;

    /// A record of a key, which is shorter than 32 KiB, a label, which is shorter than 64 KiB, and a text.
    pub(super) fn new(key: &str, label: &[u8], text: &[u8], notes: Notes) -> Self {
        let length = u16::try_from(key.len()).ok().filter(|&length| length < LABELLED);
        let length = length.expect("a key is shorter than 32 KiB");
        // The block is filled from one slice: without unsafe code the parts have to meet in a buffer first.
        let mut bytes = Vec::with_capacity(PREFIX + key.len() + Self::beside(label) + text.len());
        let mark = if label.is_empty() { 0 } else { LABELLED };
        bytes.extend_from_slice(&(length | mark).to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        if !label.is_empty() {
            let length = u16::try_from(label.len()).expect("a label is shorter than 64 KiB");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(label);
        }
        bytes.extend_from_slice(text);
        Self(ThinArc::from_header_and_slice(notes, &bytes))
    }

    /// A record that says how large a document is, and has none: for replays, which would need the memory of the cache that
    /// they simulate.
    pub fn stand_in(key: &str, size: usize, notes: Notes) -> Self {
        let mut text = [STAND_IN; 1 + size_of::<usize>()];
        text[1..].copy_from_slice(&size.to_le_bytes());
        Self::new(key, b"", &text, notes)
    }

    /// This record with other notes, if it has this key and this label and nobody shares it; else a copy that has them.
    pub(super) fn under(mut self, key: &str, label: &[u8], notes: Notes) -> Self {
        let has_both = self.key() == key.as_bytes() && self.label() == label;
        if !has_both || self.0.with_arc_mut(|arc| Arc::get_mut(arc).is_none()) {
            return Self::new(key, label, self.text(), notes);
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
        &self.0.slice[PREFIX..PREFIX + self.key_len()]
    }

    /// The label; empty if there is none.
    pub fn label(&self) -> &[u8] {
        let start = self.start();
        match self.is_labelled() {
            true => &self.0.slice[start - self.label_len()..start],
            false => &[],
        }
    }

    /// Bytes of the block that the label takes.
    pub fn beside_label(&self) -> usize {
        self.start() - PREFIX - self.key_len()
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

    fn beside(label: &[u8]) -> usize {
        if label.is_empty() { 0 } else { PREFIX + label.len() }
    }

    /// Where the text begins.
    fn start(&self) -> usize {
        let behind_key = PREFIX + self.key_len();
        if self.is_labelled() { behind_key + PREFIX + self.label_len() } else { behind_key }
    }

    fn is_labelled(&self) -> bool {
        self.length(0) & LABELLED != 0
    }

    fn key_len(&self) -> usize {
        usize::from(self.length(0) & !LABELLED)
    }

    /// Of a record that has a label.
    fn label_len(&self) -> usize {
        usize::from(self.length(PREFIX + self.key_len()))
    }

    fn length(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0.slice[at], self.0.slice[at + 1]])
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
    fn key_label_and_text_are_kept_apart() {
        for (key, text) in [("a/1", "1"), ("", "{}"), ("a/1", ""), (&"k".repeat(512), "[1,2]")] {
            for label in ["", "l", &"l".repeat(300)] {
                let record = Record::new(key, label.as_bytes(), text.as_bytes(), Notes::default());
                assert_eq!((record.key(), record.text()), (key.as_bytes(), text.as_bytes()));
                assert_eq!((record.label(), record.has_text()), (label.as_bytes(), !text.is_empty()));
                assert_eq!(record.size(), text.len());
                let takes = if label.is_empty() { 0 } else { 2 + label.len() };
                assert_eq!(record.beside_label(), takes, "nothing without a label");
            }
        }
    }

    #[test]
    fn a_record_of_another_key_label_or_holder_is_copied() {
        let record = Record::new("a/1", b"l", b"1", Notes::default());
        let at = record.0.ptr();
        let record = record.under("a/1", b"l", Notes { long: 7, ..Notes::default() });
        assert_eq!((record.0.ptr(), record.notes().long), (at, 7), "its own");
        let shared = record.clone();
        let again = record.clone().under("a/1", b"l", Notes::default());
        assert!(!shared.is_same(&again) && shared.is_same(&record));
        let bare = again.under("a/1", b"", Notes::default());
        assert_eq!((bare.label(), bare.text()), (&b""[..], &b"1"[..]));
        let other = record.under("a/2", b"m", Notes::default());
        assert_eq!((other.key(), other.label(), other.text()), (&b"a/2"[..], &b"m"[..], &b"1"[..]));
        assert_eq!(shared.holders(), 1);
    }

    #[test]
    fn a_stand_in_has_a_size_and_no_text_of_that_size() {
        let record = Record::stand_in("a/1", 1 << 30, Notes::default());
        assert_eq!((record.size(), record.text().len()), (1 << 30, 9));
    }
}
