//! The name of a document, `<resource>/<key>`: checked once when a line is read, then trusted everywhere.
//!
//! At most 512 bytes; every segment between slashes is 1 to 128 of `A-Z a-z 0-9 _ - . ~ @ : + = ,` and does not begin with
//! a dot. Whatever else a name has is escaped ([`super::escape`]). Parameters may follow ([`super::query`]). To change the grammar, change `ALLOWED`, the two lengths, `check_segments` and the texts of
//! `KeyError` here; `reference/protocol.md` tells it to users.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use smol_str::SmolStr;
use thiserror::Error;

use super::{escape, query};

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
    slash: u16,
    /// The offset of the question mark before the parameters, or the length.
    end: u16,
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
    #[error(
        "write one key, such as article/7, all beneath a prefix, such as article/*, or a tag, such as tag:eu"
    )]
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
    #[error(
        "the path has a character other than A-Z a-z 0-9 _ - . ~ @ : + = , / (others are escaped: %20 is a space)"
    )]
    Character,
    /// An escape that is none, or stands for what is written or forbidden otherwise.
    #[error(
        "a % in a path needs two digits 0-9 A-F, and stands for UTF-8 that has no other form: %20 is a space, %C3%A9 an é"
    )]
    Escape,
    /// Parameters in another form.
    #[error("behind ? come parameters as name=value, joined by & and sorted by name")]
    Query,
    /// A tag that no document can have.
    #[error(
        "a tag has 1 to 128 printable characters of ASCII, no space, quote or backslash: PURGE tag:<name>"
    )]
    Tag,
    /// Parameters where there can be none.
    #[error("all documents beneath a prefix are named without parameters")]
    PrefixWithQuery,
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

/// Whether a byte stands for itself in a segment.
pub(super) fn is_plain(byte: u8) -> bool {
    ALLOWED[usize::from(byte)]
}

impl<'a> Key<'a> {
    /// Checks a path against the grammar.
    ///
    /// # Errors
    /// The first fault, by segments from the left.
    #[inline]
    pub fn parse(path: &'a str) -> Result<Self, KeyError> {
        let Segments { slash, end } = check_segments(path)?;
        if let Some(query) = path.get(end + 1..)
            && !query::is_sorted(query)
        {
            return Err(KeyError::Query);
        }
        // A path is far shorter than 64 KiB.
        Ok(Self { path, slash: slash.ok_or(KeyError::NoSlash)? as u16, end: end as u16 })
    }

    /// [`Key::parse`] of bytes that may not even be text.
    ///
    /// # Errors
    /// As [`Key::parse`]; `Character` for bytes that are not UTF-8.
    pub fn from_bytes(path: &'a [u8]) -> Result<Self, KeyError> {
        Self::parse(std::str::from_utf8(path).map_err(|_| KeyError::Character)?)
    }

    /// The whole path, `<resource>/<key>`, and its parameters.
    pub fn as_str(&self) -> &'a str {
        self.path
    }

    /// The text before the first slash.
    pub fn resource(&self) -> &'a str {
        &self.path[..usize::from(self.slash)]
    }

    /// The text after the first slash, which may hold more slashes. Without parameters.
    pub fn name(&self) -> &'a str {
        &self.path[usize::from(self.slash) + 1..usize::from(self.end)]
    }

    /// The path without parameters.
    pub fn path(&self) -> &'a str {
        &self.path[..usize::from(self.end)]
    }

    /// The parameters, without the question mark.
    pub fn query(&self) -> Option<&'a str> {
        self.path.get(usize::from(self.end) + 1..)
    }

    /// An owned copy. Up to 23 bytes are copied inline, a longer path into one allocation.
    pub fn to_owned(&self) -> KeyBuf {
        KeyBuf { path: SmolStr::new(self.path), slash: self.slash, end: self.end }
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
    slash: u16,
    end: u16,
}

impl KeyBuf {
    /// [`Key::parse`], with a copy of the path.
    pub fn parse(path: &str) -> Result<Self, KeyError> {
        Key::parse(path).map(|key| key.to_owned())
    }

    /// The borrowed form.
    pub fn as_key(&self) -> Key<'_> {
        Key { path: &self.path, slash: self.slash, end: self.end }
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

/// The argument of a purge: one document, all documents beneath a prefix of whole segments, or all with a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern<'a> {
    /// `<resource>/<key>`
    One(Key<'a>),
    /// All documents whose paths begin so: `<prefix>/*` without the star. The slash stays, so that `a/` does not match `ab/1`.
    Beneath(&'a str),
    /// All documents with this tag: `tag:<name>`, with the `tag:`.
    Tagged(&'a str),
}

/// Whether a text can be a tag. Without quotes and backslashes it stands as it is in a log and in JSON.
pub(crate) fn is_tag(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
    (1..=MAX_SEGMENT).contains(&name.len()) && name.bytes().all(is_plain)
}

impl<'a> Pattern<'a> {
    /// Checks `<resource>/<key>`, `<prefix>/*` or `tag:<name>`.
    ///
    /// # Errors
    /// As [`Key::parse`]; `NoPattern` where there is no slash at all.
    pub fn parse(text: &'a str) -> Result<Self, KeyError> {
        if let Some(tag) = text.strip_prefix("tag:") {
            return if is_tag(tag) { Ok(Pattern::Tagged(text)) } else { Err(KeyError::Tag) };
        }
        if !text.contains('/') {
            return Err(KeyError::NoPattern);
        }
        let Some(prefix) = text.strip_suffix("/*") else {
            return Key::parse(text).map(Pattern::One);
        };
        if check_segments(prefix)?.end < prefix.len() {
            return Err(KeyError::PrefixWithQuery);
        }
        Ok(Pattern::Beneath(&text[..=prefix.len()]))
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::One(key) => key.fmt(f),
            Pattern::Beneath(prefix) => write!(f, "{prefix}*"),
            Pattern::Tagged(tag) => f.write_str(tag),
        }
    }
}

/// Where the parts of a path are.
struct Segments {
    /// The offset of the first slash.
    slash: Option<usize>,
    /// The end of the last segment.
    end: usize,
}

/// Checks every segment, up to the parameters.
fn check_segments(text: &str) -> Result<Segments, KeyError> {
    let path = text.as_bytes();
    if path.len() > MAX_PATH {
        return Err(KeyError::TooLong);
    }
    let (mut slash, mut start, mut at) = (None, 0, 0);
    let mut is_escaped = false;
    let end = loop {
        while path.get(at).is_some_and(|&byte| is_plain(byte)) {
            at += 1;
        }
        match path.get(at) {
            Some(b'/') => {
                check_segment(&path[start..at])?;
                slash = slash.or(Some(at));
                start = at + 1;
            }
            Some(b'%') => is_escaped = true,
            Some(b'?') | None => break at,
            Some(_) => return Err(KeyError::Character),
        }
        at += 1;
    };
    check_segment(&path[start..end])?;
    if is_escaped && !escape::is_canonical(&text[..end]) {
        return Err(KeyError::Escape);
    }
    Ok(Segments { slash, end })
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
    fn parameters_are_the_end_of_a_key() {
        let key = Key::parse("shop/eu/shoe?lang=de/at&size=42").unwrap();
        assert_eq!((key.resource(), key.name(), key.path()), ("shop", "eu/shoe", "shop/eu/shoe"));
        assert_eq!((key.query(), key.as_str().len()), (Some("lang=de/at&size=42"), 31));
        assert_eq!(Key::parse("shop/1").unwrap().query(), None);
        for other in ["shop/1?", "shop/1?b=1&a=1", "shop/1?a", "shop/1?a=%41", "shop/1?a=1?"] {
            assert_eq!(Key::parse(other), Err(KeyError::Query), "{other}");
        }
        assert_eq!(Key::parse("shop?a=/1"), Err(KeyError::NoSlash));
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
            ("a/%2e", KeyError::Escape),
            ("a/%2F", KeyError::Escape),
            ("%", KeyError::Escape),
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
        assert_eq!(Pattern::parse("article/*"), Ok(Pattern::Beneath("article/")));
        assert_eq!(Pattern::parse("article/1"), Ok(Pattern::One(Key::parse("article/1").unwrap())));
        assert_eq!(Pattern::parse("tag:eu/1*?"), Ok(Pattern::Tagged("tag:eu/1*?")));
        for bad in ["tag:", "tag:é", "tag:a b", "tag:a\"b", "tag:a\\", "tag:'"] {
            assert_eq!(Pattern::parse(bad), Err(KeyError::Tag), "{bad}");
        }
        for bad in ["*", "/*", "article/1*", "a/*/b", "../*", "article/1?a=/*"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        for all in ["*", "article", "article*"] {
            assert_eq!(Pattern::parse(all), Err(KeyError::NoPattern), "{all}");
        }
    }
}
