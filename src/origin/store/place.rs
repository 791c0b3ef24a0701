//! What is wrong with a text that is no document, in a sentence with its line and column.

use crate::wire::document::DocumentError;
use crate::wire::json::JsonError;

/// The mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The sentence for `bytes`, which [`crate::wire::Document::parse`] refused with `error`.
pub(super) fn sentence(bytes: &[u8], error: DocumentError) -> String {
    let DocumentError::NotJson(fault) = error else { return error.to_string() };
    let at = match fault {
        JsonError::Unexpected(at) | JsonError::Trailing(at) | JsonError::TooDeep(at) => at,
        JsonError::Truncated => bytes.len(),
        JsonError::Encoding => std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len),
    };
    if bytes.starts_with(BYTE_ORDER_MARK) && at == 0 {
        return format!("{error}: a byte order mark; save the file without it");
    }
    let (line, column) = place(bytes, at);
    format!("{error}, line {line}, column {column}")
}

/// The line and the column of an offset, both counted from 1, the column in characters.
fn place(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = &bytes[..at.min(bytes.len())];
    let line_begins = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let is_first_of_character = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
    let lines = before.iter().filter(|&&byte| byte == b'\n').count();
    (lines + 1, before[line_begins..].iter().filter(is_first_of_character).count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Document;

    #[test]
    fn a_fault_has_a_line_and_a_column() {
        let deep = format!("\n{}", "[".repeat(129));
        for (text, ends) in [
            (&b"{\n  \"a\": 1,\n  b: 2\n}"[..], "unexpected byte at offset 14, line 3, column 3"),
            ("{\"é\": ?}".as_bytes(), "line 1, column 7"),
            (b"{\"a\":\n", "it ends too early, line 2, column 1"),
            (b"", "line 1, column 1"),
            (b"{}\n{}", "more text follows the value at offset 3, line 2, column 1"),
            (b"[\n\"\xff\"]", "it is not UTF-8, line 2, column 2"),
            (deep.as_bytes(), "128 levels, line 2, column 129"),
            (b"\xef\xbb\xbf{}", "save the file without it"),
        ] {
            let error = Document::parse(text, 1000).unwrap_err();
            let sentence = sentence(text, error);
            assert!(sentence.ends_with(ends), "{sentence}");
        }
        assert_eq!(sentence(b"", DocumentError::TooLarge(9)), "the document is larger than 9 bytes");
    }
}
