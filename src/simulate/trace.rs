//! A trace: a file of one key per line, plain or compressed with zstd, read as a stream, more than once.

use std::collections::HashSet;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use foldhash::quality::RandomState;
use smol_str::SmolStr;
use thiserror::Error;
use zstd::stream::read::Decoder;

/// The longest key, in bytes.
const MAX_KEY: usize = 4096;
const BUFFER: usize = 64 << 10;
/// The first bytes of a zstd file.
const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The largest window that a zstd frame may ask the decoder to keep, as a power of two: 128 MiB, as in the `zstd` tool.
const MAX_WINDOW_LOG: u32 = 27;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why a trace cannot be read.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file cannot be opened or read to its end.
    #[error("cannot read the trace {}", path.display())]
    Unreadable {
        /// The trace.
        path: PathBuf,
        /// The system's reason, or the decoder's.
        source: io::Error,
    },
    /// A line is not a key.
    #[error("line {line} of {} {what}: a trace has one key a line, plain or compressed with zstd", path.display())]
    BadKey {
        /// The trace.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// Why: "is longer than 4096 bytes".
        what: &'static str,
    },
    /// The file holds no key.
    #[error("the trace {} holds no keys: write one key a line, in the order of the requests", path.display())]
    Empty {
        /// The trace.
        path: PathBuf,
    },
}

/// The contents of all frames of a zstd file, in order. The decoder verifies their checksums.
fn decompress(file: BufReader<File>) -> io::Result<Decoder<'static, BufReader<File>>> {
    let mut decoder = Decoder::with_buffer(file)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

/// The beginning of a text of some editors.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The keys of a trace, in order. Empty lines are skipped; a carriage return at the end of a line is not part of the key.
pub struct TraceKeys {
    reader: Box<dyn BufRead>,
    path: PathBuf,
    line: u64,
    buffer: Vec<u8>,
}

impl TraceKeys {
    /// Opens the trace at `path`, which has to be a regular file: a pipe cannot be read twice.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Self::begin(path).map_err(|source| TraceError::Unreadable { path: path.to_owned(), source })
    }

    fn begin(path: &Path) -> io::Result<Self> {
        // Checked before it is opened: opening a pipe waits for its writer. A dash means standard input.
        if path == Path::new("-") || !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a file, and it is read more than once; write it to one"));
        }
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(ZSTD.len() as u64).read_to_end(&mut start)?;
        if start.starts_with(&GZIP) {
            return Err(io::Error::other(
                "it is compressed with gzip; decompress it with gunzip, or use zstd",
            ));
        }
        file.rewind()?;
        let file = BufReader::with_capacity(BUFFER, file);
        let reader: Box<dyn BufRead> = match start == ZSTD {
            true => Box::new(BufReader::with_capacity(BUFFER, decompress(file)?)),
            false => Box::new(file),
        };
        Ok(Self { reader, path: path.to_owned(), line: 0, buffer: Vec::new() })
    }

    fn bad_key(&self, what: &'static str) -> TraceError {
        TraceError::BadKey { path: self.path.clone(), line: self.line, what }
    }

    fn unreadable(&self, error: io::Error) -> TraceError {
        // Errors of the system have a number; those of the decoder have none.
        let source = match error.raw_os_error() {
            Some(_) => error,
            None => io::Error::other(format!("the zstd data is damaged or cut short ({error})")),
        };
        TraceError::Unreadable { path: self.path.clone(), source }
    }

    /// The key in the next line, maybe empty; `None` at the end.
    fn next_key(&mut self) -> Result<Option<SmolStr>, TraceError> {
        self.buffer.clear();
        self.line += 1;
        let limit = MAX_KEY as u64 + 2;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
        if read.map_err(|error| self.unreadable(error))? == 0 {
            return Ok(None);
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let marked = if self.line == 1 { line.strip_prefix(BYTE_ORDER_MARK) } else { None };
        let line = marked.unwrap_or(line);
        if line.len() > MAX_KEY {
            return Err(self.bad_key("is longer than 4096 bytes"));
        }
        match std::str::from_utf8(line) {
            Ok(key) => Ok(Some(SmolStr::new(key))),
            Err(_) => Err(self.bad_key("is not text in UTF-8")),
        }
    }
}

impl Iterator for TraceKeys {
    type Item = Result<SmolStr, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_key().transpose()? {
                Ok(key) if key.is_empty() => {}
                key => return Some(key),
            }
        }
    }
}

/// The size of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Survey {
    /// Number of lines with a key.
    pub requests: u64,
    /// Number of different keys.
    pub keys: u64,
}

/// Counts requests and different keys. Keys with the same 64-bit hash count as one: hashes of a long log fit into memory.
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
        if requests % super::PROGRESS_EVERY == 0 {
            progress(requests);
        }
    }
    progress(requests);
    Ok(Survey { requests, keys: seen.len() as u64 })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A zstd frame with a checksum.
    fn frame(text: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.include_checksum(true).expect("a parameter that zstd knows");
        encoder.write_all(text).and_then(|()| encoder.finish()).expect("a vector takes all")
    }

    /// A temporary file, removed on drop.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(bytes: &[u8]) -> Self {
            let name = format!("dproxy-trace-{}-{:016x}", std::process::id(), fastrand::u64(..));
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, bytes).expect("a temporary file");
            Self(path)
        }

        fn keys(&self) -> Result<Vec<SmolStr>, TraceError> {
            TraceKeys::open(&self.0)?.collect()
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
        for bytes in [text.to_vec(), frame(text)] {
            let file = Scratch::new(&bytes);
            assert_eq!(file.keys().expect("a trace"), ["article/1", "article/2", "article/1"]);
            let survey = survey(TraceKeys::open(&file.0).expect("a file"), |_| ()).expect("a trace");
            assert_eq!(survey, Survey { requests: 3, keys: 2 });
        }
        assert_eq!(Scratch::new(b"").keys().expect("no lines").len(), 0);
    }

    #[test]
    fn names_the_line_that_is_not_a_key() {
        let longest = "k".repeat(MAX_KEY);
        assert!(Scratch::new(format!("{longest}\r\na\n").as_bytes()).keys().is_ok());
        let error =
            Scratch::new(format!("a\n{longest}k\n").as_bytes()).keys().expect_err("too long").to_string();
        assert!(error.contains("line 2 of") && error.contains("longer than 4096 bytes"), "{error}");
        let error = Scratch::new(b"a\nb\n\xff\n").keys().expect_err("not text").to_string();
        assert!(error.contains("line 3 of") && error.contains("one key a line"), "{error}");
    }

    #[test]
    fn reads_frame_after_frame() {
        let long = "0123456789\n".repeat(50_000);
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let bytes =
            [&frame(b"a\n")[..], &skippable, &frame(long.as_bytes()), &frame(b""), &frame(b"b")].concat();
        let keys = Scratch::new(&bytes).keys().expect("whole frames");
        assert_eq!((keys.len(), keys[0].as_str(), keys[50_001].as_str()), (50_002, "a", "b"));
    }

    #[test]
    fn refuses_damaged_frames() {
        let whole = frame("0123456789\n".repeat(1000).as_bytes());
        let refused = |bytes: &[u8]| match Scratch::new(bytes).keys() {
            Err(TraceError::Unreadable { source, .. }) => source.to_string().contains("damaged or cut short"),
            _ => false,
        };
        for cut in [4, 5, whole.len() / 2, whole.len() - 1] {
            assert!(refused(&whole[..cut]), "cut after {cut} bytes");
        }
        let mut wrong_sum = whole.clone();
        wrong_sum.last_mut().map(|byte| *byte ^= 1).expect("a checksum");
        assert!(refused(&wrong_sum));
        for tail in [&b"garbage"[..], &ZSTD[..3]] {
            assert!(refused(&[&whole[..], tail].concat()), "{tail:?} after the last frame");
        }
        // A frame without blocks whose header asks for a window of 256 MiB: exponent 18, mantissa 0 (RFC 8878, 3.1.1.1.2).
        let empty_block = [1, 0, 0];
        assert!(refused(&[&ZSTD[..], &[0x00, 18 << 3], &empty_block].concat()));
        assert!(!refused(&[&ZSTD[..], &[0x00, 17 << 3], &empty_block].concat()), "128 MiB are allowed");
    }
}
