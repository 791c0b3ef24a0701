//! A line that is a key.

use super::{Parsed, Request, Size};

/// The longest key, in bytes.
const LONGEST: usize = 4096;

/// The key without white space around it, or what is wrong with it. More is allowed than a proxy would serve: a trace may name
/// its documents by numbers.
pub(super) fn read(line: &str) -> Result<&str, &'static str> {
    let key = line.trim_ascii();
    match key {
        _ if key.len() > LONGEST => Err("is longer than 4096 bytes"),
        _ if key.starts_with('{') => Err("looks like a JSON object, of no log that is known"),
        _ if key.contains('\t') => Err("has columns, with tabs between them"),
        _ if key.contains(' ') => Err("has several words"),
        _ if key.contains('"') => Err("has quotes"),
        _ if key.contains(char::is_control) => Err("has control characters"),
        _ => Ok(key),
    }
}

pub(super) fn parsed(line: &str) -> Parsed {
    match read(line) {
        Ok(key) => Parsed::Request(Request { key: key.into(), at: None, size: Size::Unlogged }),
        Err(_) => Parsed::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word() {
        for (line, key) in [("article/1", "article/1"), (" 17\t", "17"), ("a/é?x", "a/é?x")] {
            assert_eq!(read(line), Ok(key));
        }
        for (line, what) in [
            ("a b", "words"),
            ("a\tb c", "tabs"),
            ("{\"key\":1}", "JSON"),
            ("\"a\"", "quotes"),
            ("a\0", "control"),
        ] {
            assert!(read(line).is_err_and(|why| why.contains(what)), "{line}");
        }
        assert!(read(&"k".repeat(LONGEST)).is_ok() && read(&"k".repeat(LONGEST + 1)).is_err());
    }
}
