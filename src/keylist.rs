//! Lists of keys, one on each line, in a file or on standard input.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::wire::{Key, KeyBuf};

/// Some editors put it at the beginning of a UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads all keys of a file; `-` is standard input. Empty lines and white space around a key are skipped.
pub fn read(path: &Path) -> Result<Vec<KeyBuf>> {
    let (mut text, is_input) = (Vec::new(), path.as_os_str() == "-");
    let name = if is_input { "standard input".to_owned() } else { path.display().to_string() };
    match is_input {
        true => stdin().lock().read_to_end(&mut text),
        false => File::open(path).and_then(|mut file| file.read_to_end(&mut text)),
    }
    .with_context(|| format!("cannot read the keys in {name}"))?;
    parse(&text).map_err(|(line, why)| anyhow!("line {line} of {name} is no key: {why}"))
}

/// The keys of a text, or the number of the first line that is not a key, and why.
fn parse(text: &[u8]) -> Result<Vec<KeyBuf>, (usize, String)> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
    let parse = |(index, line): (usize, &[u8])| match Key::from_bytes(line) {
        Ok(key) => Ok(key.to_owned()),
        Err(why) => Err((index + 1, why.to_string())),
    };
    lines.filter(|(_, line)| !line.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_white_space_and_names_the_line_that_is_wrong() {
        let keys = parse(b"\xEF\xBB\xBFa/1\r\n\r\n  \n\ta/2 \na/3").unwrap();
        assert_eq!(keys.iter().map(KeyBuf::as_str).collect::<Vec<_>>(), ["a/1", "a/2", "a/3"]);
        assert!(parse(b" \n\n").unwrap().is_empty());
        for (text, line) in [(&b"a/1\nb\n"[..], 2), (b"\xff", 1), (b"a/1\n\na b/1", 3)] {
            assert_eq!(parse(text).map_err(|(line, _)| line), Err(line));
        }
    }
}
