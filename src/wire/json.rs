//! JSON as text: one pass that knows whether bytes are one sound value, and where it ends.
//!
//! Documents are opaque text on every hop, so nothing here builds a tree. The scanner does not recurse: open brackets
//! are bits of one `u128`, which also bounds the nesting at [`MAX_DEPTH`]. The grammar is RFC 8259's.

use thiserror::Error;

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: u32 = 128;

/// Why a text is no JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum JsonError {
    /// It ends within a value.
    #[error("it ends too early")]
    Truncated,
    /// A byte that the grammar has no place for; its offset.
    #[error("unexpected byte at offset {0}")]
    Unexpected(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("it is nested deeper than 128 levels")]
    TooDeep,
    /// Something after the value; its offset.
    #[error("more text follows the value at offset {0}")]
    Trailing(usize),
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    Encoding,
}

/// Checks that the text is exactly one JSON value, white space around it allowed.
///
/// Tells whether it holds insignificant white space, which [`strip`] would remove.
pub fn check(text: &str) -> Result<bool, JsonError> {
    let mut scan = Scan::new(text.as_bytes(), 0);
    scan.space();
    scan.value()?;
    scan.space();
    match scan.at == text.len() {
        true => Ok(scan.spaced),
        false => Err(JsonError::Trailing(scan.at)),
    }
}

/// Removes white space outside of strings from a text that [`check`] has passed.
pub fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut kept_from = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1).map_or(bytes.len(), |end| end + 1),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(&text[kept_from..at]);
                at += 1;
                kept_from = at;
            }
            _ => at += 1,
        }
    }
    out.push_str(&text[kept_from..]);
    out
}

/// Reads the members of an object: `each(name, value, spaced)` gets the raw text of both, the name without its quotes,
/// and whether the value holds insignificant white space.
///
/// `text` must be exactly one object. Names are compared as they are written, so an escaped name is another name.
pub fn members<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str, bool)) -> Result<(), JsonError> {
    let mut scan = Scan::new(text.as_bytes(), 0);
    scan.space();
    scan.expect(b'{')?;
    scan.space();
    if !scan.eat(b'}') {
        loop {
            let name = scan.at + 1;
            scan.string()?;
            let name = &text[name..scan.at - 1];
            scan.space();
            scan.expect(b':')?;
            scan.space();
            let from = scan.at;
            // A value may be as deep as a document by itself: the object around it does not count.
            scan.depth = 0;
            scan.spaced = false;
            scan.value()?;
            each(name, &text[from..scan.at], scan.spaced);
            scan.space();
            if scan.eat(b'}') {
                break;
            }
            scan.expect(b',')?;
            scan.space();
        }
    }
    scan.space();
    match scan.at == text.len() {
        true => Ok(()),
        false => Err(JsonError::Trailing(scan.at)),
    }
}

/// A position in a text, and the brackets that are open there.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// How many brackets are open.
    depth: u32,
    /// One bit per open bracket, the innermost lowest: 1 for an object.
    open: u128,
    /// Whether insignificant white space was passed.
    spaced: bool,
}

impl<'a> Scan<'a> {
    fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at, depth: 0, open: 0, spaced: false }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn unexpected<T>(&self) -> Result<T, JsonError> {
        match self.at < self.text.len() {
            true => Err(JsonError::Unexpected(self.at)),
            false => Err(JsonError::Truncated),
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { self.unexpected() }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
            self.spaced = true;
        }
    }

    /// Passes one value, however nested, that begins at the position.
    fn value(&mut self) -> Result<(), JsonError> {
        let outside = self.depth;
        loop {
            match self.peek() {
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(b'{') => {
                    self.enter(true)?;
                    if !self.eat(b'}') {
                        self.name()?;
                        continue;
                    }
                    self.leave();
                }
                Some(b'[') => {
                    self.enter(false)?;
                    if !self.eat(b']') {
                        continue;
                    }
                    self.leave();
                }
                _ => return self.unexpected(),
            }
            if self.close(outside)? {
                return Ok(());
            }
        }
    }

    /// After a value: leaves the brackets that close here. True when none of this value's is open any more.
    fn close(&mut self, outside: u32) -> Result<bool, JsonError> {
        while self.depth > outside {
            self.space();
            let object = self.open & 1 == 1;
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                    if object {
                        self.name()?;
                    }
                    return Ok(false);
                }
                Some(b'}') if object => self.at += 1,
                Some(b']') if !object => self.at += 1,
                _ => return self.unexpected(),
            }
            self.leave();
        }
        Ok(true)
    }

    fn enter(&mut self, object: bool) -> Result<(), JsonError> {
        if self.depth == MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.open = self.open << 1 | u128::from(object);
        self.at += 1;
        self.space();
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.open >>= 1;
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Result<(), JsonError> {
        self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.expect(b'"')?;
        self.at = string_end(self.text, self.at)? + 1;
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), JsonError> {
        for &byte in word {
            self.expect(byte)?;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > from { Ok(()) } else { self.unexpected() }
    }
}

/// From within a string: the offset of the quote that ends it.
fn string_end(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
    loop {
        at = plain_end(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => at = escape_end(text, at)?,
            Some(_) => return Err(JsonError::Unexpected(at)),
            None => return Err(JsonError::Truncated),
        }
    }
}

/// From a backslash: the offset after the escape.
fn escape_end(text: &[u8], at: usize) -> Result<usize, JsonError> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            for digit in at + 2..at + 6 {
                match text.get(digit) {
                    Some(byte) if byte.is_ascii_hexdigit() => {}
                    Some(_) => return Err(JsonError::Unexpected(digit)),
                    None => return Err(JsonError::Truncated),
                }
            }
            Ok(at + 6)
        }
        Some(_) => Err(JsonError::Unexpected(at + 1)),
        None => Err(JsonError::Truncated),
    }
}

/// The offset of the first quote, backslash or control character at or after `at`.
///
/// A document is mostly the inside of strings, so this is what a relayed reply costs: names and short values end within
/// the first words, long texts are passed a block at a time.
fn plain_end(text: &[u8], mut at: usize) -> usize {
    for _ in 0..2 {
        match special_in_word(text, at) {
            Some(8) => at += 8,
            Some(offset) => return at + offset,
            None => break,
        }
    }
    while let Some(block) = text.get(at..).and_then(|text| text.first_chunk())
        && !has_special(block)
    {
        at += BLOCK;
    }
    while let Some(offset) = special_in_word(text, at) {
        at += offset;
        if offset < 8 {
            return at;
        }
    }
    at + text[at..].iter().position(|&byte| is_special(byte)).unwrap_or(text.len() - at)
}

/// What is passed at a time where there is nothing to be seen.
const BLOCK: usize = 64;

fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// On vectors: for that the length is known, nothing branches, and what is gathered is as wide as a byte.
fn has_special(block: &[u8; BLOCK]) -> bool {
    let special = |byte: u8| u8::from(byte == b'"') | u8::from(byte == b'\\') | u8::from(byte < 0x20);
    block.iter().fold(0, |any, &byte| any | special(byte)) != 0
}

/// The offset of the first special byte among the next eight, 8 when there is none; `None` when there are fewer.
fn special_in_word(text: &[u8], at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*text.get(at..)?.first_chunk()?);
    // The top bit of each zero byte; of the bytes flagged, the lowest is always a true one, which is all that is used.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let quote = zeros(word ^ (ONES * u64::from(b'"')));
    let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
    Some(((quote | backslash | control).trailing_zeros() / 8) as usize)
}

#[cfg(test)]
mod tests;
