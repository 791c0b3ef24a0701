//! JSON as text: one pass that knows whether bytes are one sound value, and where it ends.
//!
//! Documents are opaque text on every hop, so nothing here builds a tree. The scanner does not recurse: open brackets
//! are bits of one `u128`, which also bounds the nesting at [`MAX_DEPTH`]. The grammar is RFC 8259's.

mod strings;

use thiserror::Error;

use self::strings::string_end;

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

#[cfg(test)]
mod tests;
