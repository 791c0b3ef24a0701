//! Lists of keys, one on each line, in a file or on standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, stdin};
use std::path::Path;

use anyhow::{Context, Result, bail};

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

/// The keys of a list, one after another: never more than a line of it is in memory. A line that is no key is a [`NoKey`], and
/// the lines behind it follow; any other error is the end.
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

    /// The next line that is not empty; `None` at the end. Of one that is too long the first bytes.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let part =
                |reader: &mut dyn BufRead| reader.take(LONGEST as u64 + 1).split(LINE_END).next().transpose();
            let Some(line) = part(&mut *self.reader)? else { return Ok(None) };
            self.line += 1;
            if line.len() > LONGEST {
                while part(&mut *self.reader)?.is_some_and(|rest| rest.len() > LONGEST) {}
                return Ok(Some(line));
            }
            // Files that begin with one may have been put together.
            let text = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line).trim_ascii();
            if !text.is_empty() {
                return Ok(Some(text.to_vec()));
            }
        }
    }

    fn key(&self, line: &[u8]) -> Result<KeyBuf> {
        let no_key = |why| NoKey { line: self.line, name: self.name.clone(), why };
        if line.len() > LONGEST {
            bail!(no_key(format!("it is longer than {LONGEST} bytes")));
        }
        Ok(Key::from_bytes(line).map_err(|why| no_key(why.to_string()))?.to_owned())
    }
}

/// A line that is no key.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of {name} is no key: {why}")]
pub struct NoKey {
    line: usize,
    name: String,
    /// The reason.
    pub why: String,
}

impl Iterator for KeyLines {
    type Item = Result<KeyBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.next_line().transpose()? {
            Ok(line) => Some(self.key(&line)),
            Err(error) => {
                self.is_over = true;
                Some(Err(error).with_context(|| format!("cannot read the keys in {}", self.name)))
            }
        }
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

    #[test]
    fn lines_behind_one_that_is_no_key_are_read() {
        let long = "a".repeat(3 * LONGEST);
        for wrong in ["b", &long, &long[..LONGEST + 1], "\u{feff}\u{feff}a/1"] {
            let text = format!("a/1\n{wrong}\n\u{feff}a/2\n{wrong}").leak();
            let keys: Vec<Option<KeyBuf>> =
                KeyLines::over(text.as_bytes(), "a list").map(Result::ok).collect();
            let keys: Vec<Option<&str>> = keys.iter().map(|key| key.as_ref().map(KeyBuf::as_str)).collect();
            assert_eq!(keys, [Some("a/1"), None, Some("a/2"), None]);
        }
    }
}
