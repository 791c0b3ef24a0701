//! A trace: a file of one key a line, plain or compressed with zstd, read as a stream as often as need be.

use std::collections::HashSet;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use foldhash::quality::RandomState;
use smol_str::SmolStr;
use thiserror::Error;

use super::frames::{Frames, MAGIC};

/// A key is no longer than this, in bytes.
const MAX_KEY: usize = 4096;
const BUFFER: usize = 64 << 10;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file of one key a line.
#[derive(Clone, Debug)]
pub struct Trace {
    path: PathBuf,
}

/// Why a trace cannot be read.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file cannot be opened, or not be read to its end.
    #[error("cannot read the trace {}", path.display())]
    Unreadable {
        /// Of the trace.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line is no key.
    #[error("line {line} of {} {what}: a trace has one key a line, plain or compressed with zstd", path.display())]
    NoKey {
        /// Of the trace.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no key in it.
    #[error("the trace {} holds no keys: write one key a line, in the order of the requests", path.display())]
    Empty {
        /// Of the trace.
        path: PathBuf,
    },
}

impl Trace {
    /// The trace in a file that can be read more than once: not a pipe.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its keys, from the first on.
    pub fn lines(&self) -> Result<Lines, TraceError> {
        self.open().map_err(|source| TraceError::Unreadable { path: self.path.clone(), source })
    }

    fn open(&self) -> io::Result<Lines> {
        // Before it is opened: opening a pipe waits for its writer. A dash is a pipe to whoever types it.
        if self.path == Path::new("-") || !std::fs::metadata(&self.path)?.is_file() {
            return Err(io::Error::other("it is not a file, and it is read more than once; write it to one"));
        }
        let mut file = File::open(&self.path)?;
        let mut start = Vec::new();
        file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut start)?;
        if start.starts_with(&GZIP) {
            return Err(io::Error::other(
                "it is compressed with gzip; decompress it with gunzip, or use zstd",
            ));
        }
        file.rewind()?;
        let file = BufReader::with_capacity(BUFFER, file);
        let reader: Box<dyn BufRead> = match start == MAGIC {
            true => Box::new(BufReader::with_capacity(BUFFER, Frames::new(file))),
            false => Box::new(file),
        };
        Ok(Lines { reader, path: self.path.clone(), line: 0, buffer: Vec::new() })
    }
}

/// The keys of a trace. Empty lines are passed over, a carriage return at the end of a line is not of the key.
pub struct Lines {
    reader: Box<dyn BufRead>,
    path: PathBuf,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    fn no_key(&self, what: &'static str) -> TraceError {
        TraceError::NoKey { path: self.path.clone(), line: self.line, what }
    }

    /// The next line; `None` at the end.
    fn key(&mut self) -> Result<Option<SmolStr>, TraceError> {
        self.buffer.clear();
        self.line += 1;
        let limit = MAX_KEY as u64 + 2;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        if read.map_err(|source| TraceError::Unreadable { path: self.path.clone(), source })? == 0 {
            return Ok(None);
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_KEY {
            return Err(self.no_key("is longer than 4096 bytes"));
        }
        match std::str::from_utf8(line) {
            Ok(key) => Ok(Some(SmolStr::new(key))),
            Err(_) => Err(self.no_key("is not text in UTF-8")),
        }
    }
}

impl Iterator for Lines {
    type Item = Result<SmolStr, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.key().transpose()? {
                Ok(key) if key.is_empty() => {}
                key => return Some(key),
            }
        }
    }
}

/// How much there is in a trace.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Survey {
    /// Lines with a key.
    pub requests: u64,
    /// Different keys.
    pub keys: u64,
}

/// Counts requests and different keys. Keys are told apart by 64 bits of hash, so that the longest log fits into memory.
pub fn survey<K: AsRef<str>, E>(
    keys: impl IntoIterator<Item = Result<K, E>>,
    mut progress: impl FnMut(u64),
) -> Result<Survey, E> {
    let hasher = RandomState::default();
    let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
    let mut requests = 0;
    for key in keys {
        seen.insert(hasher.hash_one(key?.as_ref()));
        requests += 1;
        if requests % super::TELL_EVERY == 0 {
            progress(requests);
        }
    }
    progress(requests);
    Ok(Survey { requests, keys: seen.len() as u64 })
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    /// A file that is gone with its guard.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(bytes: &[u8]) -> Self {
            let name = format!("dproxy-trace-{}-{:016x}", std::process::id(), fastrand::u64(..));
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, bytes).expect("a temporary file");
            Self(path)
        }

        fn keys(&self) -> Result<Vec<SmolStr>, TraceError> {
            Trace::new(&self.0).lines()?.collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    #[test]
    fn reads_plain_and_compressed() {
        let text = b"article/1\r\n\narticle/2\narticle/1";
        for bytes in [text.to_vec(), compress_to_vec(&text[..], CompressionLevel::Fastest)] {
            let file = Scratch::new(&bytes);
            assert_eq!(file.keys().expect("a trace"), ["article/1", "article/2", "article/1"]);
            let survey = survey(Trace::new(&file.0).lines().expect("a file"), |_| ()).expect("a trace");
            assert_eq!(survey, Survey { requests: 3, keys: 2 });
        }
        assert_eq!(Scratch::new(b"").keys().expect("no lines").len(), 0);
    }

    #[test]
    fn says_which_line_is_no_key() {
        let longest = "k".repeat(MAX_KEY);
        assert!(Scratch::new(format!("{longest}\r\na\n").as_bytes()).keys().is_ok());
        let error =
            Scratch::new(format!("a\n{longest}k\n").as_bytes()).keys().expect_err("too long").to_string();
        assert!(error.contains("line 2 of") && error.contains("longer than 4096 bytes"), "{error}");
        let error = Scratch::new(b"a\nb\n\xff\n").keys().expect_err("not text").to_string();
        assert!(error.contains("line 3 of") && error.contains("one key a line"), "{error}");
    }

    #[test]
    fn refuses_what_is_no_file() {
        assert!(matches!(Trace::new("/no/such").lines(), Err(TraceError::Unreadable { .. })));
        assert!(matches!(Trace::new("/").lines(), Err(TraceError::Unreadable { .. })));
        assert!(matches!(Scratch::new(b"\x1f\x8b\x08\0").keys(), Err(TraceError::Unreadable { source, .. })
            if source.to_string().contains("gunzip")));
        let mut zstd = compress_to_vec(&b"a\nb\n"[..], CompressionLevel::Fastest);
        zstd.pop();
        assert!(matches!(Scratch::new(&zstd).keys(), Err(TraceError::Unreadable { .. })));
    }
}
