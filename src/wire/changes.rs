//! WATCH and CHANGED: how an origin tells the nodes in front of it that documents have changed.
//!
//! ```text
//! 7 WATCH - 0 by=4be1… wait=500            7 {"status":"OK","data":{"epoch":"9f…","seq":41,"lease_ms":2000,"reset":true}}
//! 8 WATCH 9f… 41 by=4be1… wait=500         8 {"status":"OK","data":{"epoch":"9f…","seq":43,"lease_ms":2000,"changes":["article/7","price/*"]}}
//!   CHANGED article/7 price/* wait=all       {"status":"OK","data":{"seq":43,"acked":16,"lapsed":0}}
//! ```
//! An epoch is 64 random bits, in 16 hexadecimal digits: numbers of two epochs are never compared. In an epoch each change
//! has a number, from 1.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::key::Pattern;
use super::reply::Frame;
use super::request::{Options, RequestError};

/// How to write WATCH.
pub(super) const WATCH: RequestError<'static> =
    RequestError::Usage("WATCH is asked in a session: WATCH <epoch or -> <seq> [wait=<ms>] [by=<id>]");
/// How to write CHANGED.
pub(super) const CHANGED: RequestError<'static> =
    RequestError::Usage("CHANGED needs the names of documents: CHANGED <resource>/<key or *> ... [wait=all]");

/// A moment in the log of an origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The epoch that `seq` belongs to.
    pub epoch: u64,
    /// The number of the last change that is known of.
    pub seq: u64,
}

impl Position {
    /// Writes it as members of a reply, each behind a comma.
    pub(super) fn frame(self, out: &mut impl Frame) {
        out.small(format!(",\"epoch\":\"{:016x}\",\"seq\":{}", self.epoch, self.seq).as_bytes());
    }
}

/// `WATCH <epoch|-> <seq> [wait=<ms>] [by=<id>]`: asks for the changes after a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// What the watcher knows already; `None` for nothing (`-`).
    pub since: Option<Position>,
    /// How long the reply may wait for a change.
    pub wait: Duration,
    /// The id of the watcher. One without is told of changes and gets no lease.
    pub by: Option<u64>,
}

impl Watch {
    /// Reads what stands behind the verb, and the options behind that.
    pub(super) fn parse(words: &str) -> Result<(Self, Options<'_>), RequestError<'_>> {
        let mut parts = words.splitn(3, ' ');
        let (Some(epoch), Some(seq)) = (parts.next(), parts.next()) else { return Err(WATCH) };
        let seq = seq.parse().map_err(|_| WATCH)?;
        let since = match epoch {
            "-" => None,
            epoch => Some(Position { epoch: parse_epoch(epoch).ok_or(WATCH)?, seq }),
        };
        let mut watch = Self { since, wait: Duration::ZERO, by: None };
        let Some(options) = parts.next() else { return Ok((watch, Options::default())) };
        for word in options.split(' ') {
            match word.split_once('=') {
                Some(("wait", ms)) => watch.wait = Duration::from_millis(ms.parse().map_err(|_| WATCH)?),
                Some(("by", id)) => watch.by = Some(u64::from_str_radix(id, 16).map_err(|_| WATCH)?),
                _ => {}
            }
        }
        Ok((watch, Options::parse(options)?))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let since = match self.since {
            Some(Position { epoch, seq }) => format!("{epoch:016x} {seq}"),
            None => "- 0".to_owned(),
        };
        let by = self.by.map_or_else(String::new, |id| format!(" by={id:016x}"));
        out.extend_from_slice(format!("WATCH {since}{by} wait={}", self.wait.as_millis()).as_bytes());
    }
}

pub(super) fn parse_epoch(text: &str) -> Option<u64> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { u64::from_str_radix(text, 16).ok() } else { None }
}

/// `CHANGED <pattern> ... [wait=all]`: says that documents have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed<'a> {
    /// Checked patterns, parted by one space.
    names: &'a str,
    /// Whether the reply waits until no watcher can show what was before.
    pub wait_for_all: bool,
}

impl<'a> Changed<'a> {
    /// Reads what stands behind the verb: names, and `wait=all` at the end.
    ///
    /// # Errors
    /// [`RequestError`]: no names, or one outside of the grammar.
    pub fn parse(words: &'a str) -> Result<Self, RequestError<'a>> {
        let (names, wait_for_all) = match words.strip_suffix(" wait=all") {
            Some(names) => (names, true),
            None => (words, false),
        };
        for name in names.split(' ') {
            if name.is_empty() {
                return Err(CHANGED);
            }
            Pattern::parse(name)?;
        }
        Ok(Self { names, wait_for_all })
    }

    /// The documents.
    pub fn patterns(&self) -> impl Iterator<Item = Pattern<'a>> {
        self.names.split(' ').filter_map(|name| Pattern::parse(name).ok())
    }

    /// The longest that its answer may take: with `wait=all`, that of the longest lease and a tenth of it.
    pub fn patience(&self) -> Duration {
        if self.wait_for_all { Duration::from_secs(70) } else { Duration::from_secs(5) }
    }

    /// The offset, in a line of a session, of the space before its options: behind names, which have a slash before any `=` or are
    /// tags, and `wait=all`.
    pub(super) fn option_start(line: &str) -> Option<usize> {
        let mut at = line.find(' ')?;
        for word in line[at + 1..].split(' ') {
            let begin = word.split('=').next().unwrap_or_default();
            let is_name = begin.contains('/') || word.starts_with("tag:");
            if !is_name && word != "wait=all" {
                return Some(at);
            }
            at += 1 + word.len();
        }
        None
    }
}

impl fmt::Display for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names)?;
        if self.wait_for_all { f.write_str(" wait=all") } else { Ok(()) }
    }
}

/// The `data` of the reply to WATCH.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Batch {
    #[serde(with = "epoch")]
    epoch: u64,
    /// The number of the last change.
    seq: u64,
    /// For how long the watcher may take it that it knows of every change, in milliseconds, from the moment at which it sent
    /// the WATCH; 0 is not at all.
    pub lease_ms: u64,
    /// Which documents have changed since is not known: it may be any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// The documents that have changed: keys and prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

impl Batch {
    /// The changes up to a moment; `None` if they are not known.
    pub fn new(position: Position, lease: Duration, changes: Option<Vec<String>>) -> Self {
        Self {
            epoch: position.epoch,
            seq: position.seq,
            lease_ms: lease.as_millis() as u64,
            reset: changes.is_none(),
            changes: changes.unwrap_or_default(),
        }
    }

    /// The moment up to which it tells.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }
}

mod epoch {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(epoch: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{epoch:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_epoch(&text).ok_or_else(|| D::Error::custom("an epoch has 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;

    #[test]
    fn watches_are_written_as_they_are_read() {
        let since = Some(Position { epoch: 0x9f00_0000_0000_0001, seq: 41 });
        for watch in [
            Watch { since, wait: Duration::from_millis(500), by: Some(7) },
            Watch { since: None, wait: Duration::ZERO, by: None },
        ] {
            let mut line = Vec::new();
            Request::Watch(watch).write(&mut line);
            let line = [std::str::from_utf8(&line).unwrap(), " deadline=900"].concat();
            let (request, options) = Request::parse_with_options(&line).unwrap();
            assert_eq!(
                (request, options.deadline),
                (Request::Watch(watch), Some(Duration::from_millis(900)))
            );
        }
        for bad in [
            "WATCH",
            "WATCH -",
            "WATCH 9f 1",
            "WATCH - x",
            "WATCH - 0 wait=",
            "WATCH - 0 by=x",
            "WATCH - 0 x",
            "WATCH +f00000000000001 1",
        ] {
            assert!(matches!(Request::parse_with_options(bad), Err(RequestError::Usage(_))), "{bad}");
        }
        assert!(Request::parse("WATCH - 0").is_err(), "only in sessions");
    }

    #[test]
    fn names_of_changes_are_parted_from_options() {
        let read = |line| {
            let (request, options) = Request::parse_with_options(line).unwrap();
            let Request::Changed(changed) = request else { panic!("{request:?}") };
            let names: Vec<String> = changed.patterns().map(|pattern| pattern.to_string()).collect();
            (names.join(" "), changed.wait_for_all, options.trace)
        };
        assert_eq!(read("CHANGED a/1"), ("a/1".to_owned(), false, None));
        assert_eq!(read("CHANGED a/1 b/x=1/* wait=all"), ("a/1 b/x=1/*".to_owned(), true, None));
        assert_eq!(read("CHANGED a/b=c wait=all trace=x/y"), ("a/b=c".to_owned(), true, Some("x/y")));
        assert_eq!(read("CHANGED a/1 trace=x"), ("a/1".to_owned(), false, Some("x")));
        for bad in [
            "CHANGED",
            "CHANGED ",
            "CHANGED wait=all",
            "CHANGED a/1  b/1",
            "CHANGED a/1 wait=one b/1",
            "CHANGED *",
        ] {
            assert!(Request::parse_with_options(bad).is_err(), "{bad}");
        }
        assert!(matches!(Request::parse("CHANGED a/1 wait=all"), Ok(Request::Changed(_))));
    }

    #[test]
    fn a_batch_is_written_as_it_is_read() {
        let position = Position { epoch: 0xf, seq: 57 };
        let reset = Batch::new(position, Duration::from_secs(2), None);
        let text = serde_json::to_string(&reset).unwrap();
        assert_eq!(text, r#"{"epoch":"000000000000000f","seq":57,"lease_ms":2000,"reset":true}"#);
        assert_eq!(serde_json::from_str::<Batch>(&text).unwrap(), reset);
        let changes = Batch::new(position, Duration::ZERO, Some(vec!["a/1".to_owned()]));
        let text = serde_json::to_string(&changes).unwrap();
        assert_eq!(serde_json::from_str::<Batch>(&text).unwrap(), changes);
        assert_eq!(changes.position(), position);
    }
}
