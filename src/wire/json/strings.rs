//! Where a string ends: most of a document is the inside of strings.

use super::JsonError;

/// From within a string: the offset of the quote that ends it.
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
