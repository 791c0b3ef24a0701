//! Percent-decoding of a request target: the path of a document, and the values of a query.

use std::borrow::Cow;

/// Decodes percent-encoding, except of a slash: `%2F` must not separate segments, and as `%` no key may hold it.
pub(super) fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        bytes = rest;
        match (byte, encoded(rest)) {
            (b'%', Some(decoded)) if decoded != b'/' => {
                out.push(decoded);
                bytes = &rest[2..];
            }
            _ => out.push(byte),
        }
    }
    Cow::Owned(out)
}

/// The byte that two hexadecimal digits stand for.
fn encoded(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// The first value of a name in a query, as a form writes it.
pub(super) fn query_value(query: &str, name: &str) -> Option<Vec<u8>> {
    let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut out = Vec::new();
    for (i, part) in pair.replace('+', " ").split("%2F").flat_map(|part| part.split("%2f")).enumerate() {
        if i > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(&decoded(part));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_all_but_slashes() {
        for (text, expected) in [
            ("article/1", "article/1"),
            ("a%40b/1", "a@b/1"),
            ("a%2Fb", "a%2Fb"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz/1", "%zz/1"),
        ] {
            assert_eq!(decoded(text), expected.as_bytes(), "{text}");
        }
        assert_eq!(decoded("%ff"), &b"\xff"[..]);
    }

    #[test]
    fn finds_a_query_value() {
        assert_eq!(query_value("a=1&key=article%2F1", "key"), Some(b"article/1".to_vec()));
        assert_eq!(query_value("key=%3Cb%3E+x", "key"), Some(b"<b> x".to_vec()));
        assert_eq!(query_value("keys=1", "key"), None);
    }
}
