//! What a line of a trace says: a key, or a request in a line of an access log.
//!
//! ```text
//! line ──▶ keys ──────────────────────────────────────▶ Parsed
//!      └─▶ combined, cloudfront, caddy, envoy ─▶ Logged ─▶ Parsed: GET and HEAD with 200 and 304 count
//! ```
//! Pure: one file a format, all of them without state but for the columns that a CloudFront log names in its head.

mod caddy;
mod cloudfront;
mod combined;
mod envoy;
mod keys;
mod record;
mod scalar;
mod target;
mod time;

use std::fmt;

use serde::Serialize;
use smol_str::SmolStr;

use self::cloudfront::CloudFront;
use crate::proxy::cache::Millis;

/// The values of `--trace-format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceFormat {
    /// One key a line.
    Keys,
    /// The common and the combined log of nginx, Apache and varnishncsa.
    Combined,
    /// Standard logs of CloudFront: columns by name.
    CloudFront,
    /// Caddy's access log: a JSON object a line.
    Caddy,
    /// Envoy's access log as JSON: an object a line.
    Envoy,
}

impl TraceFormat {
    /// Every format.
    pub const ALL: [TraceFormat; 5] =
        [Self::Keys, Self::Combined, Self::CloudFront, Self::Caddy, Self::Envoy];

    /// The value of `--trace-format`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Combined => "combined",
            Self::CloudFront => "cloudfront",
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
        }
    }

    /// What a file in this format is, with its article.
    pub const fn described(self) -> &'static str {
        match self {
            Self::Keys => "a list of keys",
            Self::Combined => "a combined log (nginx, Apache, Varnish)",
            Self::CloudFront => "a CloudFront log",
            Self::Caddy => "a Caddy log",
            Self::Envoy => "an Envoy JSON log",
        }
    }

    /// The format that a line is in; `None` when it fits none, so that another line has to tell.
    pub fn of(line: &str) -> Option<Self> {
        if keys::read(line).is_ok() {
            return Some(Self::Keys);
        }
        Self::ALL[1..].iter().copied().find(|&format| {
            let is_head = format == Self::CloudFront && cloudfront::is_head(line);
            is_head || matches!(Parser::new(format).parse(line), Parsed::Request(_) | Parsed::LeftOut(_))
        })
    }
}

impl fmt::Display for TraceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A request that counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The path without its first slash and without the query.
    pub key: SmolStr,
    /// When it was made, in milliseconds since 1970, if the line says so.
    pub at: Option<Millis>,
    /// The size of the document, as far as the line tells it.
    pub size: Size,
}

/// What a line tells of the size of the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// The bytes of a whole reply.
    Bytes(u64),
    /// Nothing: the reply to HEAD, or a 304, has no body.
    NoBody,
    /// Nothing: the format or the line has no such column.
    Unlogged,
}

/// Why a line does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Neither GET nor HEAD.
    Method,
    /// Neither 200 nor 304.
    Status,
    /// The target is no path.
    Path,
}

/// What a line comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Parsed {
    /// A request that counts.
    Request(Request),
    /// A request that does not.
    LeftOut(Reason),
    /// Nothing that is looked for: an empty line, the head of a log.
    Nothing,
    /// No line of this format.
    Other,
}

/// Lines of a log that did not count, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct LeftOut {
    /// Neither GET nor HEAD.
    pub method: u64,
    /// Neither 200 nor 304.
    pub status: u64,
    /// The target is no path.
    pub path: u64,
    /// No line of an access log.
    pub other: u64,
}

impl LeftOut {
    /// Counts a request.
    pub fn count(&mut self, reason: Reason) {
        match reason {
            Reason::Method => self.method += 1,
            Reason::Status => self.status += 1,
            Reason::Path => self.path += 1,
        }
    }

    /// All lines left out.
    pub fn total(&self) -> u64 {
        self.method + self.status + self.path + self.other
    }
}

/// `12 (method 3, status 9)`
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, status, path, other } = *self;
        let parts = [
            (method, "neither GET nor HEAD"),
            (status, "neither 200 nor 304"),
            (path, "no path"),
            (other, "no request"),
        ];
        write!(f, "{}", self.total())?;
        let mut before = " (";
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{before}{count} {what}")?;
            before = ", ";
        }
        f.write_str(if self.total() > 0 { ")" } else { "" })
    }
}

/// Reads the lines of one file in order.
pub(super) struct Parser {
    format: TraceFormat,
    cloudfront: CloudFront,
}

impl Parser {
    /// A parser at the beginning of a file.
    pub(super) fn new(format: TraceFormat) -> Self {
        Self { format, cloudfront: CloudFront::default() }
    }

    /// The format that it reads.
    pub(super) fn format(&self) -> TraceFormat {
        self.format
    }

    /// Reads the next line, without its end.
    pub(super) fn parse(&mut self, line: &str) -> Parsed {
        if line.trim_ascii().is_empty() {
            return Parsed::Nothing;
        }
        let record = match self.format {
            TraceFormat::Keys => return keys::parsed(line),
            TraceFormat::CloudFront if self.cloudfront.take_head(line) => return Parsed::Nothing,
            TraceFormat::CloudFront => self.cloudfront.read(line),
            TraceFormat::Combined => combined::read(line),
            TraceFormat::Caddy => caddy::read(line),
            TraceFormat::Envoy => envoy::read(line),
        };
        record.map_or(Parsed::Other, |record| record.judged())
    }
}

/// What a line that is no key looks like, for its refusal.
pub(super) fn looks_like(line: &str) -> &'static str {
    match TraceFormat::of(line) {
        Some(TraceFormat::Combined) => "looks like a line of a combined log (nginx, Apache, Varnish)",
        Some(TraceFormat::CloudFront) => "looks like a line of a CloudFront log",
        Some(TraceFormat::Caddy) => "looks like a line of a Caddy log",
        Some(TraceFormat::Envoy) => "looks like a line of an Envoy JSON log",
        Some(TraceFormat::Keys) | None => keys::read(line).err().unwrap_or("is no key"),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;

    use super::*;
    use crate::fuzz::{Fuzz, outcome};

    #[test]
    fn logs_survive_any_bytes() {
        let fuzz = Fuzz {
            samples: &[
                b"article/7",
                b"192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] \"GET /article/1 HTTP/1.1\" 200 512 \"-\" \"-\"",
                b"#Fields: date time cs-method cs-uri-stem sc-status sc-bytes\n2026-11-30\t13:50:15\tGET\t/article/1\t200\t512",
                br#"{"ts":1796046615.25,"request":{"method":"GET","uri":"/article/1"},"status":200,"size":512}"#,
                br#"{"start_time":"2026-11-30T13:50:15.250Z","method":"GET","path":"/article/1","response_code":200,"bytes_sent":512}"#,
            ],
            words: &["\"", "[", "]", " ", "\t", "\n", "\\x", "%", "31/Feb/0000:99:99:99 +9999", "18446744073709551616", "-", "null", "1e999"],
        };
        fuzz.run(|bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return outcome(0) };
            let kinds = TraceFormat::ALL.map(|format| {
                let mut parser = Parser::new(format);
                text.lines().map(|line| discriminant(&parser.parse(line))).collect::<Vec<_>>()
            });
            outcome((kinds, text.lines().next().map(looks_like)))
        });
    }

    #[test]
    fn a_line_tells_its_format() {
        for (line, format) in [
            ("article/1", Some(TraceFormat::Keys)),
            ("17", Some(TraceFormat::Keys)),
            (r#"::1 - - [30/Nov/2026:14:00:00 +0000] "GET /a HTTP/1.1" 200 5"#, Some(TraceFormat::Combined)),
            ("#Version: 1.0", Some(TraceFormat::CloudFront)),
            (
                r#"{"ts":1.5,"request":{"method":"GET","uri":"/a"},"size":5,"status":200}"#,
                Some(TraceFormat::Caddy),
            ),
            (r#"{"method":"GET","path":"/a","response_code":200}"#, Some(TraceFormat::Envoy)),
            (r#"{"level":"info","msg":"serving"}"#, None),
            ("two words", None),
        ] {
            assert_eq!(TraceFormat::of(line), format, "{line}");
        }
        assert!(looks_like("two words").contains("several words"));
    }

    #[test]
    fn counts_are_told_by_reason() {
        let mut left_out = LeftOut { other: 1, ..LeftOut::default() };
        [Reason::Method, Reason::Status, Reason::Status]
            .into_iter()
            .for_each(|reason| left_out.count(reason));
        assert_eq!(left_out.to_string(), "4 (1 neither GET nor HEAD, 2 neither 200 nor 304, 1 no request)");
        assert_eq!(LeftOut::default().to_string(), "0");
    }
}
