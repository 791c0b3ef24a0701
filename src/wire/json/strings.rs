//! Finds the end of a JSON string (RFC 8259, section 7): most of a document is the inside of strings.

use memchr::memchr2;

use super::JsonError;

/// A long text is gone through in blocks that stay in the core's cache from the first look to the second.
pub(super) const BLOCK: usize = 16 * 1024;

/// The offset of the quote that ends a string, for an offset `at` within the string.
pub(super) fn string_end(text: &[u8], mut at: usize) -> Result<usize, JsonError> {
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

/// The offset after the escape whose backslash is at `at`.
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
/// Checking a relayed reply spends most of its time here. Names and short values end within the first two words of eight
/// bytes; of a long text the end is searched first, and then what lies before it for control characters.
fn plain_end(text: &[u8], mut at: usize) -> usize {
    for _ in 0..2 {
        match special_in_word(text, at) {
            Some(8) => at += 8,
            Some(offset) => return at + offset,
            None => break,
        }
    }
    for block in text[at..].chunks(BLOCK) {
        let end = memchr2(b'"', b'\\', block).unwrap_or(block.len());
        if lowest(&block[..end]) < 0x20 {
            return at + block.iter().position(|&byte| byte < 0x20).unwrap_or_default();
        }
        at += end;
        if end < block.len() {
            break;
        }
    }
    at
}

/// Written for vector instructions: no branch, and a result as wide as a byte.
fn lowest(text: &[u8]) -> u8 {
    text.iter().fold(u8::MAX, |lowest, &byte| lowest.min(byte))
}

/// The offset of the first special byte among the next eight, 8 when there is none; `None` when there are fewer.
fn special_in_word(text: &[u8], at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*text.get(at..)?.first_chunk()?);
    // The top bit of each zero byte. A borrow may flag bytes above a zero byte wrongly; only the lowest flag is used, and it is right.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let quote = zeros(word ^ (ONES * u64::from(b'"')));
    let backslash = zeros(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
    Some(((quote | backslash | control).trailing_zeros() / 8) as usize)
}
