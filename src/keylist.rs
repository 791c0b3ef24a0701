//! Lists of keys, one on each line, in a file or on standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::wire::{Key, KeyBuf};

/// Some editors put it at the beginning of a UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const LINE_END: u8 = b'\n';
/// The longest line, in bytes.
const LONGEST: usize = 8192;

/// Reads all keys of a file; `-` is standard input. Empty lines and white space around a key are skipped.
pub fn read(path: &Path) -> Result<Vec<KeyBuf>> {
    KeyLines::open(path)?.collect()
}

/// The keys of a list, one after another: never more than a line of it is in memory. It ends with the first error.
pub struct KeyLines {
    reader: Box<dyn BufRead + Send>,
    name: String,
    /// Lines so far.
    line: usize,
    is_over: bool,
}

impl KeyLines {
    /// Opens a list as [`read`] does.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::over(BufReader::new(stdin()), "standard input"));
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read the keys in {name}"))?;
        Ok(Self::over(BufReader::new(file), &name))
    }

    fn over(reader: impl BufRead + Send + 'static, name: &str) -> Self {
        Self { reader: Box::new(reader), name: name.to_owned(), line: 0, is_over: false }
    }

    /// The next line that is not empty; `None` at the end.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let next = self.reader.by_ref().take(LONGEST as u64 + 1).split(LINE_END).next().transpose();
            let next = next.with_context(|| format!("cannot read the keys in {}", self.name))?;
            let Some(line) = next else { return Ok(None) };
            self.line += 1;
            if line.len() > LONGEST {
                return Err(self.no_key(&format!("it is longer than {LONGEST} bytes")));
            }
            let text = if self.line == 1 { line.strip_prefix(BYTE_ORDER_MARK) } else { None };
            let text = text.unwrap_or(&line).trim_ascii();
            if !text.is_empty() {
                return Ok(Some(text.to_vec()));
            }
        }
    }

    fn no_key(&self, why: &str) -> anyhow::Error {
        anyhow!("line {} of {} is no key: {why}", self.line, self.name)
    }
}

impl Iterator for KeyLines {
    type Item = Result<KeyBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let key = self.next_line().transpose()?.and_then(|line| match Key::from_bytes(&line) {
            Ok(key) => Ok(key.to_owned()),
            Err(why) => Err(self.no_key(&why.to_string())),
        });
        self.is_over = key.is_err();
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static [u8]) -> Result<Vec<KeyBuf>> {
        KeyLines::over(text, "a list").collect()
    }

    #[test]
    fn skips_white_space_and_names_the_line_that_is_wrong() {
        let keys = parse(b"\xEF\xBB\xBFa/1\r\n\r\n  \n\ta/2 \na/3").unwrap();
        assert_eq!(keys.iter().map(KeyBuf::as_str).collect::<Vec<_>>(), ["a/1", "a/2", "a/3"]);
        assert!(parse(b" \n\n").unwrap().is_empty() && parse(b"").unwrap().is_empty());
        for (text, line) in [(&b"a/1\nb\n"[..], 2), (b"\xff", 1), (b"a/1\n\na b/1", 3)] {
            let why = parse(text).unwrap_err().to_string();
            assert!(why.starts_with(&format!("line {line} of a list is no key")), "{why}");
        }
        let long = vec![b'a'; 3 * LONGEST].leak();
        assert!(parse(long).unwrap_err().to_string().contains("longer"));
    }
}
