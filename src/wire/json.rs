//! JSON as text: one pass tells whether a text is one value of RFC 8259, and where the value ends.
//!
//! Documents are opaque text on every hop, so nothing here builds a tree. The scanner does not recurse: open brackets
//! are bits of one `u128`, which also bounds the nesting at 128. The grammar is RFC 8259's.

mod strings;

use thiserror::Error;

use self::strings::string_end;

/// The deepest nesting of arrays and objects: one bit each of `Scan::open`.
const MAX_DEPTH: u32 = 128;

/// The reason why a text is not one JSON value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum JsonError {
    /// The text ends within a value.
    #[error("it ends too early")]
    Truncated,
    /// A byte that the grammar does not allow here; its offset in bytes.
    #[error("unexpected byte at offset {0}")]
    Unexpected(usize),
    /// Nested deeper than 128 levels; the offset in bytes of the bracket that is too many.
    #[error("it is nested deeper than 128 levels")]
    TooDeep(usize),
    /// More than white space after the value; its offset in bytes.
    #[error("more text follows the value at offset {0}")]
    Trailing(usize),
    /// Not UTF-8 (RFC 3629).
    #[error("it is not UTF-8")]
    Encoding,
}

/// Checks that a text is exactly one JSON value of RFC 8259, with or without white space around it.
///
/// True when there is white space outside of strings, which [`strip`] would remove. Duplicate names are allowed, and
/// `\uXXXX` may be half of a surrogate pair, as the grammar has it.
///
/// # Errors
/// The first fault from the left.
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

/// Removes the white space outside of strings from a text that [`check`] has accepted.
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

/// Calls `each(name, value, spaced)` for every member of an object, in order: the raw text of the name without its quotes,
/// the raw text of the value, and whether the value holds white space outside of strings.
///
/// Escapes are not decoded: `"\u0061"` and `"a"` are two names here. Values may nest 128 deep each.
///
/// # Errors
/// The first fault from the left, also where `text` is not exactly one object; members before it were handed out.
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
            // The value may be a document, whose depth is counted without the object around it.
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
    /// The number of open brackets.
    depth: u32,
    /// One bit per open bracket, the innermost lowest: 1 for an object.
    open: u128,
    /// Whether there was white space outside of strings so far.
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

    /// Moves past the value that begins here, with everything nested in it.
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

    /// After a value: leaves the brackets that close here. True when no bracket beyond the `outside` ones is open.
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
            return Err(JsonError::TooDeep(self.at));
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
