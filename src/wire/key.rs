//! The name of a document, `<resource>/<key>`: checked once when a line is read, then trusted everywhere.
//!
//! At most 512 bytes; every segment between slashes is 1 to 128 of `A-Z a-z 0-9 _ - . ~ @ : + = ,` and does not begin with
//! a dot. To change the grammar, change `ALLOWED`, the two lengths, `check_segments` and the texts of
//! `KeyError` here; `reference/protocol.md` tells it to users.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use smol_str::SmolStr;
use thiserror::Error;

/// The longest path, in bytes.
const MAX_PATH: usize = 512;
/// The longest segment between two slashes, in bytes.
const MAX_SEGMENT: usize = 128;

/// A path that follows the grammar, borrowed from the request line.
///
/// Nothing but this (or its owned form, [`KeyBuf`]) is ever written to another socket or used to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key<'a> {
    path: &'a str,
    /// The offset of the first slash, which separates resource and key.
    slash: usize,
}

/// What is wrong with a path. Its text is the `data` of the BAD_REQUEST that the client gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum KeyError {
    /// Longer than 512 bytes.
    #[error("the path is longer than 512 bytes")]
    TooLong,
    /// No slash, so no resource and key.
    #[error("the path needs a resource and a key: <resource>/<key>")]
    NoSlash,
    /// No slash, where a key or a prefix is expected.
    #[error("write one key, such as article/7, or all beneath a prefix, such as article/*")]
    NoPattern,
    /// An empty segment: two slashes in a row, or a slash at either end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment of more than 128 bytes.
    #[error("a segment of the path is longer than 128 characters")]
    LongSegment,
    /// A segment that begins with a dot: `.`, `..`, or a hidden file.
    #[error("a segment of the path begins with a dot")]
    Dot,
    /// A byte outside of the alphabet.
    #[error("the path has a character other than A-Z a-z 0-9 _ - . ~ @ : + = , /")]
    Character,
}

/// The bytes of a segment: `A-Z a-z 0-9 _ - . ~ @ : + = ,`.
const ALLOWED: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.~@:+=,";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    table
};

impl<'a> Key<'a> {
    /// Checks a path against the grammar.
    ///
    /// # Errors
    /// The first fault, by segments from the left.
    pub fn parse(path: &'a str) -> Result<Self, KeyError> {
        let slash = check_segments(path.as_bytes())?.ok_or(KeyError::NoSlash)?;
        Ok(Self { path, slash })
    }

    /// [`Key::parse`] of bytes that may not even be text.
    ///
    /// # Errors
    /// As [`Key::parse`]; `Character` for bytes that are not UTF-8.
    pub fn from_bytes(path: &'a [u8]) -> Result<Self, KeyError> {
        Self::parse(std::str::from_utf8(path).map_err(|_| KeyError::Character)?)
    }

    /// The whole path, `<resource>/<key>`.
    pub fn as_str(&self) -> &'a str {
        self.path
    }

    /// The text before the first slash.
    pub fn resource(&self) -> &'a str {
        &self.path[..self.slash]
    }

    /// The text after the first slash, which may hold more slashes.
    pub fn name(&self) -> &'a str {
        &self.path[self.slash + 1..]
    }

    /// An owned copy. Up to 23 bytes are copied inline, a longer path into one allocation.
    pub fn to_owned(&self) -> KeyBuf {
        KeyBuf { path: SmolStr::new(self.path), slash: self.slash }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}

/// A [`Key`] that owns its text. A clone copies up to 23 bytes, or counts one reference to a longer path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyBuf {
    path: SmolStr,
    slash: usize,
}

impl KeyBuf {
    /// [`Key::parse`], with a copy of the path.
    pub fn parse(path: &str) -> Result<Self, KeyError> {
        Key::parse(path).map(|key| key.to_owned())
    }

    /// The borrowed form.
    pub fn as_key(&self) -> Key<'_> {
        Key { path: &self.path, slash: self.slash }
    }

    /// The whole path, `<resource>/<key>`.
    pub fn as_str(&self) -> &str {
        &self.path
    }
}

/// As the path alone, so that a map with owned keys is read with borrowed paths.
impl Hash for KeyBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// As the path alone.
impl Ord for KeyBuf {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for KeyBuf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<str> for KeyBuf {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<KeyBuf> for SmolStr {
    fn from(key: KeyBuf) -> Self {
        key.path
    }
}

impl fmt::Display for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// The argument of a purge: one document, or all documents beneath a prefix of whole segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern<'a> {
    /// `<resource>/<key>`
    One(Key<'a>),
    /// `<prefix>/*`, without the star: the slash stays, so that `a/` does not match `ab/1`.
    Beneath(&'a str),
}

impl<'a> Pattern<'a> {
    /// Checks `<resource>/<key>` or `<prefix>/*`.
    ///
    /// # Errors
    /// As [`Key::parse`]; `NoPattern` where there is no slash at all.
    pub fn parse(text: &'a str) -> Result<Self, KeyError> {
        if !text.contains('/') {
            return Err(KeyError::NoPattern);
        }
        let Some(prefix) = text.strip_suffix("/*") else {
            return Key::parse(text).map(Pattern::One);
        };
        check_segments(prefix.as_bytes())?;
        Ok(Pattern::Beneath(&text[..=prefix.len()]))
    }

    /// Whether the pattern names the document at `path`.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Pattern::One(key) => key.as_str() == path,
            Pattern::Beneath(prefix) => path.starts_with(prefix),
        }
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::One(key) => key.fmt(f),
            Pattern::Beneath(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Checks every segment. The offset of the first slash, `None` without one.
fn check_segments(path: &[u8]) -> Result<Option<usize>, KeyError> {
    if path.len() > MAX_PATH {
        return Err(KeyError::TooLong);
    }
    let mut first_slash = None;
    let mut start = 0;
    for at in 0..=path.len() {
        match path.get(at) {
            Some(b'/') | None => {
                check_segment(&path[start..at])?;
                if at < path.len() && first_slash.is_none() {
                    first_slash = Some(at);
                }
                start = at + 1;
            }
            Some(&byte) if ALLOWED[byte as usize] => {}
            Some(_) => return Err(KeyError::Character),
        }
    }
    Ok(first_slash)
}

fn check_segment(segment: &[u8]) -> Result<(), KeyError> {
    match segment {
        [] => Err(KeyError::EmptySegment),
        [b'.', ..] => Err(KeyError::Dot),
        _ if segment.len() > MAX_SEGMENT => Err(KeyError::LongSegment),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_at_the_first_slash() {
        let key = Key::parse("shop/eu/shoe:42+red").unwrap();
        assert_eq!((key.resource(), key.name()), ("shop", "eu/shoe:42+red"));
    }

    #[test]
    fn names_what_is_wrong() {
        for (path, error) in [
            ("", KeyError::EmptySegment),
            ("article", KeyError::NoSlash),
            ("/article/1", KeyError::EmptySegment),
            ("article/", KeyError::EmptySegment),
            ("a//b", KeyError::EmptySegment),
            ("a/..", KeyError::Dot),
            ("../a", KeyError::Dot),
            ("a/.hidden", KeyError::Dot),
            ("a/%2e", KeyError::Character),
            ("a\\b/c", KeyError::Character),
            ("a/é", KeyError::Character),
            ("a/b\0", KeyError::Character),
            ("a/b ", KeyError::Character),
        ] {
            assert_eq!(Key::parse(path).unwrap_err(), error, "{path:?}");
        }
        assert_eq!(Key::from_bytes(b"a/\xff"), Err(KeyError::Character));
    }

    #[test]
    fn keeps_the_lengths() {
        let segment = "s".repeat(MAX_SEGMENT);
        assert!(Key::parse(&format!("{segment}/{segment}")).is_ok());
        assert_eq!(Key::parse(&format!("a/{segment}s")), Err(KeyError::LongSegment));
        let longest = format!("{segment}/{segment}/{segment}/{}", "s".repeat(MAX_PATH - 3 * 129));
        assert_eq!(longest.len(), MAX_PATH);
        assert!(Key::parse(&longest).is_ok());
        assert_eq!(Key::parse(&format!("{longest}s")), Err(KeyError::TooLong));
    }

    #[test]
    fn a_pattern_ends_at_a_segment() {
        let all = Pattern::parse("article/*").unwrap();
        assert!(all.matches("article/1") && all.matches("article/a/b") && !all.matches("articles/1"));
        let one = Pattern::parse("article/1").unwrap();
        assert!(one.matches("article/1") && !one.matches("article/12"));
        for bad in ["*", "/*", "article/1*", "a/*/b", "../*"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        for all in ["*", "article", "article*"] {
            assert_eq!(Pattern::parse(all), Err(KeyError::NoPattern), "{all}");
        }
    }
}
