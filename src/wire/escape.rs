//! Names beyond the alphabet of keys: `product/caf%C3%A9%20noir` is "café noir".
//!
//! A character that the alphabet lacks is written as the bytes of its UTF-8, each as `%` and two digits (RFC 3986, section
//! 2.1). One document has one key: digits are upper case, and what the alphabet has stays as it is. A slash separates
//! segments and cannot be escaped; control characters cannot either.

use std::borrow::Cow;

use super::key::is_plain;

/// The key for a text. Slashes stay.
pub fn encoded(text: &str) -> Cow<'_, str> {
    let stays = |byte: u8| byte == b'/' || is_plain(byte);
    if text.bytes().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut key = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if stays(byte) {
            key.push(char::from(byte));
        } else {
            escape(byte, &mut key);
        }
    }
    Cow::Owned(key)
}

/// Appends a byte as `%` and two digits.
pub(super) fn escape(byte: u8, to: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    to.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// The text of a key, or of a URL's path; `None` if that is not UTF-8. A `%` without two digits stays.
pub fn decoded(key: &str) -> Option<Cow<'_, str>> {
    if !key.contains('%') {
        return Some(Cow::Borrowed(key));
    }
    String::from_utf8(unescaped(key)).ok().map(Cow::Owned)
}

/// The bytes that a text with escapes stands for. A `%` without two digits stays.
pub fn unescaped(escaped: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        match (byte, hexadecimal(rest)) {
            (b'%', Some(byte)) => {
                text.push(byte);
                bytes = &rest[2..];
            }
            _ => {
                text.push(byte);
                bytes = rest;
            }
        }
    }
    text
}

/// The key for the path of a URL, which clients may write in many ways. What cannot be one stays as it is.
pub fn canonical(path: &str) -> Cow<'_, str> {
    let mut escapes = path.split('%').skip(1).map(|rest| hexadecimal(rest.as_bytes()));
    if !path.contains('%') || escapes.any(|byte| byte.is_none_or(|byte| byte == b'/')) {
        return Cow::Borrowed(path);
    }
    decoded(path).map_or(Cow::Borrowed(path), |text| Cow::Owned(encoded(&text).into_owned()))
}

/// Whether each `%` of a key stands for something that has no other key.
pub(super) fn is_canonical(key: &str) -> bool {
    decoded(key).is_some_and(|text| !text.contains(char::is_control) && encoded(&text) == key)
}

/// The byte that the first two digits stand for.
fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_key() {
        for (text, key) in [
            ("product/café noir", "product/caf%C3%A9%20noir"),
            ("a/100%", "a/100%25"),
            ("a/%20", "a/%2520"),
            ("a/b?c&d*", "a/b%3Fc%26d%2A"),
            ("a/~@:+=,._-", "a/~@:+=,._-"),
        ] {
            assert_eq!((&*encoded(text), decoded(key).as_deref()), (key, Some(text)));
            assert!(is_canonical(key), "{key}");
        }
        for other in
            ["%41", "%2F", "%2e", "%c3%A9", "%C3", "%FF", "%", "%4", "%zz", "%00", "%0A", "%7F", "%C2%85"]
        {
            assert!(!is_canonical(other), "{other}");
        }
    }

    #[test]
    fn the_paths_of_urls_become_keys() {
        for (path, key) in [
            ("article/1", "article/1"),
            ("a%40b/%63af%c3%a9", "a@b/caf%C3%A9"),
            ("a/100%25", "a/100%25"),
            ("a/100%", "a/100%"),
            ("a%2Fb/%20", "a%2Fb/%20"),
            ("a/%ff", "a/%ff"),
        ] {
            assert_eq!(canonical(path), key);
        }
    }
}
