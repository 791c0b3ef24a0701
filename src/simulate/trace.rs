//! A trace: the requests of a file or pipe, in order. Its format is recognised by its first lines unless it is given.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::io;
use std::path::Path;

use foldhash::quality::RandomState;

use super::formats::{LeftOut, Parsed, Parser, Request, Size, TraceFormat, looks_like};
use super::lines::{Lines, is_file};
use super::{PROGRESS_EVERY, TraceError};

/// Lines that may come before the first that tells the format: what Caddy logs at its start is no access log.
const FIRST_LINES: usize = 64;

/// What a replay needs of each request beside its key.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Needs {
    /// When it was made.
    pub times: bool,
    /// The size of its document.
    pub sizes: bool,
    /// The trace is read more than once.
    pub again: bool,
}

/// The requests of a trace that count. Lines of a log that do not are counted; in a list of keys they are errors.
pub struct Trace {
    lines: Lines,
    parser: Parser,
    needs: Needs,
    requests: u64,
    left_out: LeftOut,
    first_other: Option<u64>,
    is_done: bool,
}

impl Trace {
    /// Opens the trace at `path`; `-` is standard input. A pipe is an error when it is needed `again`.
    ///
    /// # Errors
    /// `Unreadable`
    pub fn open(path: &Path, format: Option<TraceFormat>, needs: Needs) -> Result<Self, TraceError> {
        let unreadable = |source| TraceError::Unreadable { path: path.to_owned(), source };
        // Checked before it is opened: opening a pipe waits for its writer.
        if needs.again && !is_file(path).map_err(unreadable)? {
            return Err(unreadable(io::Error::other(
                "it is not a file, and it is read more than once; write it to one, or give --capacity in entries",
            )));
        }
        let mut lines = Lines::open(path).map_err(unreadable)?;
        let format = match format {
            Some(format) => format,
            None => recognised(&mut lines)?,
        };
        Ok(Self {
            lines,
            parser: Parser::new(format),
            needs,
            requests: 0,
            left_out: LeftOut::default(),
            first_other: None,
            is_done: false,
        })
    }

    /// Its format.
    pub fn format(&self) -> TraceFormat {
        self.parser.format()
    }

    /// The lines so far that did not count.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The next request; `None` at the end.
    fn advance(&mut self) -> Result<Option<Request>, TraceError> {
        let is_list = self.format() == TraceFormat::Keys;
        while let Some(line) = self.lines.next()? {
            let text = match String::from_utf8_lossy(line) {
                std::borrow::Cow::Owned(_) if is_list => return Err(self.bad_key("is not text in UTF-8")),
                text => text,
            };
            match self.parser.parse(&text) {
                Parsed::Request(request) => {
                    self.requests += 1;
                    return self.sufficient(request).map(Some);
                }
                Parsed::LeftOut(reason) => self.left_out.count(reason),
                Parsed::Nothing => {}
                Parsed::Other if is_list => {
                    let what = looks_like(&text);
                    return Err(self.bad_key(what));
                }
                Parsed::Other => {
                    self.left_out.other += 1;
                    self.first_other.get_or_insert(self.lines.number());
                }
            }
        }
        self.concluded().map(|()| None)
    }

    fn bad_key(&self, what: &'static str) -> TraceError {
        TraceError::BadKey { path: self.lines.path().to_owned(), line: self.lines.number(), what }
    }

    /// The request, if it has all that is needed.
    fn sufficient(&self, request: Request) -> Result<Request, TraceError> {
        let lacks = |what, flag| {
            let (path, line) = (self.lines.path().to_owned(), self.lines.number());
            Err(TraceError::Lacks { path, line, what, flag })
        };
        match request {
            Request { at: None, .. } if self.needs.times => lacks("time", "--ttl"),
            Request { size: Size::Unlogged, .. } if self.needs.sizes => lacks("size", "--max-bytes"),
            request => Ok(request),
        }
    }

    /// Whether the trace made sense, at its end.
    fn concluded(&self) -> Result<(), TraceError> {
        let (path, left_out) = (self.lines.path().to_owned(), self.left_out);
        let told = self.requests + left_out.total() - left_out.other;
        match self.first_other {
            Some(line) if left_out.other > told => {
                Err(TraceError::BadLog { path, format: self.format(), line, others: left_out.other })
            }
            _ if self.requests > 0 => Ok(()),
            _ if left_out.total() > 0 => Err(TraceError::AllLeftOut { path, left_out }),
            _ => Err(TraceError::Empty { path }),
        }
    }
}

/// The format that the first line tells which fits any; a list of keys if none does, which then refuses its first line.
fn recognised(lines: &mut Lines) -> Result<TraceFormat, TraceError> {
    let mut first = lines.look_ahead(FIRST_LINES)?.map(String::from_utf8_lossy);
    let told = first.find_map(|line| match line.trim_ascii() {
        "" => None,
        line => TraceFormat::of(line),
    });
    Ok(told.unwrap_or(TraceFormat::Keys))
}

impl Iterator for Trace {
    type Item = Result<Request, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.advance().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The size of a trace.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Survey {
    /// Number of requests that count.
    pub requests: u64,
    /// Number of different keys.
    pub keys: u64,
}

/// Counts requests and different keys. Keys with the same 64-bit hash count as one: hashes of a long log fit into memory.
pub fn survey<E>(
    requests: impl IntoIterator<Item = Result<Request, E>>,
    mut progress: impl FnMut(u64),
) -> Result<Survey, E> {
    let hasher = RandomState::default();
    let mut seen = HashSet::with_hasher(foldhash::fast::RandomState::default());
    let mut count = 0;
    for request in requests {
        seen.insert(hasher.hash_one(request?.key));
        count += 1;
        if count % PROGRESS_EVERY == 0 {
            progress(count);
        }
    }
    progress(count);
    Ok(Survey { requests: count, keys: seen.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    fn read(bytes: &[u8], needs: Needs) -> Result<(TraceFormat, Vec<String>, LeftOut), String> {
        let file = Scratch::new(bytes);
        let mut trace = Trace::open(&file.0, None, needs).map_err(|error| error.to_string())?;
        let keys: Result<Vec<String>, TraceError> =
            trace.by_ref().map(|request| request.map(|request| request.key.to_string())).collect();
        keys.map(|keys| (trace.format(), keys, trace.left_out())).map_err(|error| error.to_string())
    }

    fn keys(bytes: &[u8]) -> Result<Vec<String>, String> {
        read(bytes, Needs::default()).map(|(_, keys, _)| keys)
    }

    fn combined(request: &str, status: u16) -> String {
        format!("::1 - - [30/Nov/2026:14:50:15 +0100] \"{request} HTTP/1.1\" {status} 512 \"-\" \"-\"\n")
    }

    #[test]
    fn reads_keys_and_counts_them() {
        let text = b"article/1\r\n\n article/2\narticle/1";
        assert_eq!(keys(text).expect("a trace"), ["article/1", "article/2", "article/1"]);
        let file = Scratch::new(text);
        let trace = Trace::open(&file.0, None, Needs { again: true, ..Needs::default() }).expect("a file");
        assert_eq!(survey(trace, |_| ()).expect("a trace"), Survey { requests: 3, keys: 2 });
    }

    #[test]
    fn names_the_line_that_is_not_a_key() {
        let longest = "k".repeat(4096);
        assert!(keys(format!("{longest}\r\na\n").as_bytes()).is_ok());
        for (text, line, what) in [
            (format!("a\n{longest}k\n").into_bytes(), 2, "longer than 4096 bytes"),
            (format!("a\n{}\n", longest.repeat(20)).into_bytes(), 2, "longer than 4096 bytes"),
            (b"a\nb\n\xff\n".to_vec(), 3, "not text"),
            (b"a\n\nb c\n".to_vec(), 3, "several words"),
            (format!("a/1\n{}", combined("GET /a", 200)).into_bytes(), 2, "a line of a combined log"),
            (b"{\"a\":1}\n".to_vec(), 1, "looks like a JSON object"),
        ] {
            let error = keys(&text).expect_err("no key");
            let named = error.contains(&format!("line {line} of")) && error.contains("one key a line");
            assert!(named && error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_log_is_recognised_behind_lines_that_are_none() {
        let junk = "{\"level\":\"info\",\"msg\":\"serving\"}\n".repeat(3);
        let caddy =
            "{\"ts\":1.5,\"request\":{\"method\":\"GET\",\"uri\":\"/a/1\"},\"size\":5,\"status\":200}\n";
        let text = format!("\n{junk}{}", caddy.repeat(4));
        let (format, keys, left_out) = read(text.as_bytes(), Needs::default()).expect("a log");
        assert_eq!((format, keys.len(), left_out.other), (TraceFormat::Caddy, 4, 3));
    }

    #[test]
    fn what_does_not_count_is_counted() {
        let log = [
            combined("GET /a/1?x=1", 200),
            combined("POST /a/1", 200),
            combined("GET /a/2", 404),
            combined("HEAD /a/1", 304),
            "cut of".to_owned(),
        ]
        .concat();
        let (format, keys, left_out) = read(log.as_bytes(), Needs::default()).expect("a log");
        assert_eq!((format, keys), (TraceFormat::Combined, vec!["a/1".to_owned(), "a/1".to_owned()]));
        assert_eq!(left_out, LeftOut { method: 1, status: 1, path: 0, other: 1 });
        let all = keys_error(&combined("GET /a", 500).repeat(3));
        assert!(all.contains("no request") && all.contains("3 neither 200 nor 304"), "{all}");
        let most = keys_error(&(combined("GET /a", 200) + "x y\nx y\n"));
        assert!(most.contains("2 from line 2 on") && most.contains("--trace-format"), "{most}");
    }

    fn keys_error(text: &str) -> String {
        keys(text.as_bytes()).expect_err("no trace")
    }

    #[test]
    fn says_what_a_flag_lacks() {
        let times = Needs { times: true, ..Needs::default() };
        let sizes = Needs { sizes: true, ..Needs::default() };
        let log = combined("GET /a", 200);
        assert!(read(log.as_bytes(), times).is_ok() && read(log.as_bytes(), sizes).is_ok());
        let unsized_log = log.replace(" 512", "");
        for (text, needs, lacking) in [
            ("a\n", times, "line 1 of"),
            ("a\n", sizes, "no size, which --max-bytes needs"),
            (&unsized_log, sizes, "no size"),
            ("a\n", times, "no time, which --ttl needs"),
        ] {
            let error = read(text.as_bytes(), needs).expect_err("something lacks");
            assert!(error.contains(lacking), "{error}");
        }
    }
}
