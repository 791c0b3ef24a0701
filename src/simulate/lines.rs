//! The lines of a file or a pipe, plain or compressed with zstd or gzip, read as a stream.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, stdin};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use memchr::memchr;
use zstd::stream::read::Decoder;

use super::TraceError;

/// The longest line that is read whole, in bytes.
const LONGEST: usize = 64 << 10;
const BUFFER: usize = 64 << 10;
/// The first bytes of a zstd file.
const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The largest window that a zstd frame may ask the decoder to keep, as a power of two: 128 MiB, as in the `zstd` tool.
const MAX_WINDOW_LOG: u32 = 27;
/// The first bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The beginning of a text of some editors.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whether a path is that of a regular file, which can be read again. A dash means standard input.
pub(super) fn is_file(path: &Path) -> io::Result<bool> {
    Ok(path != Path::new("-") && std::fs::metadata(path)?.is_file())
}

/// Lines, in order and with their numbers. The first ones can be looked at before they are taken.
pub(super) struct Lines {
    reader: Box<dyn BufRead>,
    path: PathBuf,
    /// The last line taken, or as much of it as is read.
    line: Vec<u8>,
    /// Its number, from 1.
    number: u64,
    /// Lines that were looked at.
    ahead: VecDeque<Vec<u8>>,
    /// The last line read goes on behind its first [`LONGEST`] bytes.
    is_cut: bool,
    /// No line has been read.
    is_first: bool,
    /// What a failed decoder is told with.
    packing: &'static str,
}

impl Lines {
    /// Opens the file or pipe at `path`; `-` is standard input.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file: Box<dyn Read> = match path == Path::new("-") {
            true => Box::new(stdin()),
            false => Box::new(File::open(path)?),
        };
        let mut start = Vec::new();
        file.by_ref().take(ZSTD.len() as u64).read_to_end(&mut start)?;
        let (is_zstd, is_gzip) = (start == ZSTD, start.starts_with(&GZIP));
        let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(file));
        let (reader, packing): (Box<dyn BufRead>, _) = match () {
            () if is_zstd => (Box::new(BufReader::with_capacity(BUFFER, unpacked(whole)?)), "zstd"),
            // Of all its parts: logs of some days are joined by `cat`.
            () if is_gzip => (Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole))), "gzip"),
            () => (Box::new(whole), "plain"),
        };
        Ok(Self {
            reader,
            path: path.to_owned(),
            line: Vec::new(),
            number: 0,
            ahead: VecDeque::new(),
            is_cut: false,
            is_first: true,
            packing,
        })
    }

    /// The next line without its end, at most its first 64 KiB; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TraceError> {
        match self.ahead.pop_front() {
            Some(line) => self.line = line,
            None => self.fill()?,
        }
        self.number += 1;
        Ok(if self.line.is_empty() { None } else { Some(without_end(&self.line)) })
    }

    /// Up to `count` lines that follow; fewer behind one that is too long.
    pub(super) fn look_ahead(&mut self, count: usize) -> Result<impl Iterator<Item = &[u8]>, TraceError> {
        while self.ahead.len() < count && !self.is_cut {
            self.fill()?;
            if self.line.is_empty() {
                break;
            }
            self.ahead.push_back(std::mem::take(&mut self.line));
        }
        Ok(self.ahead.iter().map(|line| without_end(line)))
    }

    /// The number of the line that [`Lines::next`] returned last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn fill(&mut self) -> Result<(), TraceError> {
        self.read().map_err(|error| self.unreadable(error))
    }

    /// Reads a line with its end into `line`, which is empty at the end of the file.
    fn read(&mut self) -> io::Result<()> {
        while self.is_cut {
            let rest = self.reader.fill_buf()?;
            let end = memchr(b'\n', rest);
            let length = end.map_or(rest.len(), |at| at + 1);
            self.is_cut = end.is_none() && length > 0;
            self.reader.consume(length);
        }
        self.line.clear();
        let read = self.reader.by_ref().take(LONGEST as u64).read_until(b'\n', &mut self.line)?;
        self.is_cut = read == LONGEST && !self.line.ends_with(b"\n");
        if std::mem::take(&mut self.is_first) && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    fn unreadable(&self, error: io::Error) -> TraceError {
        // Errors of the system have a number; those of a decoder have none.
        let source = match (error.raw_os_error(), self.packing) {
            (Some(_), _) | (None, "plain") => error,
            (None, "gzip") => {
                io::Error::other(format!("the gzip data is damaged or cut short ({error}); try gunzip -t"))
            }
            (None, packing) => {
                io::Error::other(format!("the {packing} data is damaged or cut short ({error})"))
            }
        };
        TraceError::Unreadable { path: self.path.clone(), source }
    }
}

/// The contents of all frames of a zstd file, in order. The decoder verifies their checksums.
fn unpacked<R: BufRead>(file: R) -> io::Result<Decoder<'static, R>> {
    let mut decoder = Decoder::with_buffer(file)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::scratch::Scratch;
    use super::*;

    /// A zstd frame with a checksum.
    fn frame(text: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        encoder.include_checksum(true).expect("a parameter that zstd knows");
        encoder.write_all(text).and_then(|()| encoder.finish()).expect("a vector takes all")
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).and_then(|()| encoder.finish()).expect("a vector takes all")
    }

    fn lines(bytes: &[u8]) -> Result<Vec<String>, TraceError> {
        let file = Scratch::new(bytes);
        let mut lines = Lines::open(&file.0).expect("a file");
        let mut all = Vec::new();
        while let Some(line) = lines.next()? {
            all.push(String::from_utf8_lossy(line).into_owned());
        }
        Ok(all)
    }

    #[test]
    fn reads_plain_and_compressed() {
        let text = b"article/1\r\n\narticle/2\narticle/1";
        let marked = [BYTE_ORDER_MARK, text].concat();
        for bytes in [text.to_vec(), frame(text), gzip(text), marked.clone(), frame(&marked)] {
            assert_eq!(lines(&bytes).expect("a file"), ["article/1", "", "article/2", "article/1"]);
        }
        assert_eq!(lines(&[gzip(b"a\n"), gzip(b"b\n")].concat()).expect("two parts"), ["a", "b"]);
        assert_eq!(lines(b"").expect("no lines").len(), 0);
    }

    #[test]
    fn a_line_that_was_looked_at_comes_again() {
        let file = Scratch::new(b"a\nb\nc\n");
        let mut lines = Lines::open(&file.0).expect("a file");
        let seen: Vec<Vec<u8>> = lines.look_ahead(2).expect("lines").map(<[u8]>::to_vec).collect();
        assert_eq!(seen, [b"a", b"b"]);
        for (number, line) in [b"a", b"b", b"c"].into_iter().enumerate() {
            assert_eq!(lines.next().expect("a line"), Some(&line[..]));
            assert_eq!(lines.number(), number as u64 + 1);
        }
        assert_eq!(lines.next().expect("the end"), None);
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let long = "x".repeat(5 * LONGEST);
        let all = lines(format!("a\n{long}\nb\n{}\nc", "y".repeat(LONGEST - 1)).as_bytes()).expect("lines");
        let lengths: Vec<usize> = all.iter().map(String::len).collect();
        assert_eq!(lengths, [1, LONGEST, 1, LONGEST - 1, 1]);
    }

    #[test]
    fn reads_frame_after_frame() {
        let long = "0123456789\n".repeat(50_000);
        let skippable = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let bytes =
            [&frame(b"a\n")[..], &skippable, &frame(long.as_bytes()), &frame(b""), &frame(b"b")].concat();
        let lines = lines(&bytes).expect("whole frames");
        assert_eq!((lines.len(), lines[0].as_str(), lines[50_001].as_str()), (50_002, "a", "b"));
    }

    #[test]
    fn refuses_damaged_frames() {
        let refused = |bytes: &[u8]| match lines(bytes) {
            Err(TraceError::Unreadable { source, .. }) => source.to_string().contains("damaged or cut short"),
            _ => false,
        };
        for whole in [frame, gzip].map(|pack| pack("0123456789\n".repeat(1000).as_bytes())) {
            for cut in [4, 5, whole.len() / 2, whole.len() - 1] {
                assert!(refused(&whole[..cut]), "cut after {cut} bytes");
            }
        }
        let whole = frame("0123456789\n".repeat(1000).as_bytes());
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
