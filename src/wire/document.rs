//! A document: the JSON text of a stored file (RFC 8259), white space outside of strings removed and nothing else changed:
//! the order of members, duplicate names, the digits of numbers and the escapes in strings stay as they are.

use std::fmt;

use thiserror::Error;

use super::json::{self, JsonError};
use super::record::{Notes, Record};

/// The default limit of a document, in bytes.
pub const MAX_DOCUMENT: usize = 1 << 20;

/// The text of a document: checked once, then shared. A clone costs a reference count.
#[derive(Clone)]
pub struct Document(Record);

/// The reason why bytes are not a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DocumentError {
    /// More bytes than this limit.
    #[error("the document is larger than {0} bytes")]
    TooLarge(usize),
    /// Not one JSON value.
    #[error("the document is not JSON: {0}")]
    NotJson(#[from] JsonError),
}

impl Document {
    /// Checks that `bytes` are at most `limit`, UTF-8 (RFC 3629), and exactly one JSON value (RFC 8259) nested at most 128
    /// deep; removes white space outside of strings.
    ///
    /// # Errors
    /// `TooLarge` before anything is read, else `NotJson` with the first fault.
    pub fn parse(bytes: &[u8], limit: usize) -> Result<Self, DocumentError> {
        if bytes.len() > limit {
            return Err(DocumentError::TooLarge(limit));
        }
        let text = simdutf8::basic::from_utf8(bytes).map_err(|_| JsonError::Encoding)?;
        Ok(Self::from_checked("", text, json::check(text)?))
    }

    /// A document of a text that [`json::check`] or [`json::members`] has accepted; `spaced` as they reported it. It is read
    /// to be held under `key`.
    pub(super) fn from_checked(key: &str, text: &str, spaced: bool) -> Self {
        match spaced {
            true => Self(Record::new(key, b"", json::strip(text).as_bytes(), Notes::default())),
            false => Self(Record::new(key, b"", text.as_bytes(), Notes::default())),
        }
    }

    /// The document of a record; `None` if that has no text.
    #[inline]
    pub fn of(record: Record) -> Option<Self> {
        record.has_text().then_some(Self(record))
    }

    /// A record of a document under a key, or of there being none, with a label, which may be empty, and notes. Nothing is copied
    /// if the document was read for this key, is not shared, and has this label.
    pub fn into_record(document: Option<Self>, key: &str, label: &[u8], notes: Notes) -> Record {
        match document {
            Some(Self(record)) => record.under(key, label, notes),
            None => Record::new(key, label, b"", notes),
        }
    }

    /// The text. It was checked to be UTF-8, and is once more: bytes are what nodes pass on.
    pub fn as_str(&self) -> &str {
        simdutf8::basic::from_utf8(self.0.text()).unwrap_or_default()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.text().len()
    }

    /// Always false: the shortest JSON value has one byte.
    pub fn is_empty(&self) -> bool {
        self.0.text().is_empty()
    }
}

/// By the text alone.
impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.0.text() == other.0.text()
    }
}

impl Eq for Document {}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.as_str()).finish()
    }
}

impl AsRef<[u8]> for Document {
    fn as_ref(&self) -> &[u8] {
        self.0.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_text() {
        let file = "{\r\n\t\"n\": [1.10, 1E+2, -0, 123456789012345678901234567890],\n \"a\": 1, \"a\": 2, \"s\": \"\\u00e9 \\/\"\n}\n";
        let document = Document::parse(file.as_bytes(), 1000).unwrap();
        assert_eq!(
            document.as_str(),
            r#"{"n":[1.10,1E+2,-0,123456789012345678901234567890],"a":1,"a":2,"s":"\u00e9 \/"}"#
        );
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(Document::parse(b"[1,2]", 4), Err(DocumentError::TooLarge(4)));
        for bad in [&b""[..], b" ", b"{", b"NaN", b"{} {}", b"\"\xff\"", b"\xef\xbb\xbf{}"] {
            assert!(Document::parse(bad, 100).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
