//! The form of a line. Keys and names of nodes are of letters that need no quoting in either.
//!
//! ```text
//! 192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] "GET /article/1" 200 512 "-" "-" hit 8001 0.000012
//! {"time":"2026-11-30T13:50:15.250Z","address":"192.0.2.7","method":"GET","path":"/article/1","status":200,
//!  "code":"OK","bytes":512,"cache":"hit","node":8001,"took_ms":0.012}
//! ```

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::queue::{Answered, Cached};

/// The values of `--access-log-format`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LineFormat {
    /// The combined log of web servers, and behind it how the cache had it, the node, and the seconds that it took.
    #[default]
    Combined,
    /// A JSON object a line.
    Json,
}

impl LineFormat {
    /// Every format.
    pub const ALL: [LineFormat; 2] = [Self::Combined, Self::Json];

    /// The value of `--access-log-format`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Combined => "combined",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for LineFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Writes lines. The second and the address are those of the line before nearly always, so their texts are kept; with the
/// machinery of `format!` a line would cost more than the hit that it tells of.
pub(super) struct Formatter {
    format: LineFormat,
    second: Kept<u64>,
    address: Kept<IpAddr>,
}

/// The text of the last value.
struct Kept<T> {
    value: Option<T>,
    text: String,
}

impl<T: Copy + PartialEq> Kept<T> {
    fn new() -> Self {
        Self { value: None, text: String::new() }
    }

    fn text(&mut self, value: T, write: impl FnOnce(T) -> String) -> &str {
        if self.value.replace(value) != Some(value) {
            self.text = write(value);
        }
        &self.text
    }
}

impl Formatter {
    pub(super) fn new(format: LineFormat) -> Self {
        Self { format, second: Kept::new(), address: Kept::new() }
    }

    /// Appends the line of a request that was answered at `at`.
    pub(super) fn write(&mut self, record: &Answered<'_>, at: SystemTime, out: &mut Vec<u8>) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let address = self.address.text(record.from, |address| address.to_string());
        match self.format {
            LineFormat::Combined => {
                let time = self.second.text(since.as_secs(), |seconds| common(second(seconds)));
                combined(record, address, time, out);
            }
            LineFormat::Json => {
                let time = self.second.text(since.as_secs(), |seconds| internet(second(seconds)));
                json(record, address, (time, since.subsec_millis()), out);
            }
        }
    }
}

fn combined(record: &Answered<'_>, address: &str, time: &str, out: &mut Vec<u8>) {
    put(out, &[address, " - - [", time, "] \"", record.method, " /", record.what, "\" "]);
    number(out, u64::from(record.status.http_code()));
    put(out, &[" "]);
    number(out, record.bytes as u64);
    put(out, &[" \"-\" \"-\" ", record.cache.as_str().unwrap_or("-"), " "]);
    node(record, "-", "", out);
    put(out, &[" "]);
    fraction(out, microseconds(record.took), 1_000_000);
    put(out, &["\n"]);
}

fn json(record: &Answered<'_>, address: &str, (time, millis): (&str, u32), out: &mut Vec<u8>) {
    put(out, &[r#"{"time":""#, time, "."]);
    padded(out, millis.into(), 1_000);
    put(out, &[r#"Z","address":""#, address, r#"","method":""#, record.method]);
    put(out, &[r#"","path":"/"#, record.what, r#"","status":"#]);
    number(out, u64::from(record.status.http_code()));
    put(out, &[r#","code":""#, record.status.as_str(), r#"","bytes":"#]);
    number(out, record.bytes as u64);
    match record.cache.as_str() {
        Some(cache) => put(out, &[r#","cache":""#, cache, r#"""#]),
        None => put(out, &[r#","cache":null"#]),
    }
    put(out, &[r#","node":"#]);
    node(record, "null", "\"", out);
    put(out, &[r#","took_ms":"#]);
    fraction(out, microseconds(record.took), 1_000);
    put(out, &["}\n"]);
}

/// The name of the node that answered, within `quotes`, or its port.
fn node(record: &Answered<'_>, none: &str, quotes: &str, out: &mut Vec<u8>) {
    match record {
        Answered { port: 0, name: "", .. } => put(out, &[none]),
        Answered { port, name: "", .. } => number(out, (*port).into()),
        Answered { name, .. } => put(out, &[quotes, name, quotes]),
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number below `scale`, a power of ten, with leading zeros.
fn padded(out: &mut Vec<u8>, number: u64, scale: u64) {
    out.extend_from_slice(&itoa::Buffer::new().format(scale + number).as_bytes()[1..]);
}

/// Appends `parts / scale` as a decimal fraction; `scale` is a power of ten.
fn fraction(out: &mut Vec<u8>, parts: u64, scale: u64) {
    number(out, parts / scale);
    put(out, &["."]);
    padded(out, parts % scale, scale);
}

/// Rounded.
fn microseconds(took: Duration) -> u64 {
    u64::try_from((took + Duration::from_nanos(500)).as_micros()).unwrap_or(u64::MAX)
}

impl Cached {
    fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Hit => Some("hit"),
            Self::Stale => Some("stale"),
            Self::Miss => Some("miss"),
            Self::Unknown => None,
        }
    }
}

/// `2026-11-30T13:50:15` (RFC 3339, without the end).
fn internet(second: SystemTime) -> String {
    let mut text = humantime::format_rfc3339_seconds(second).to_string();
    text.pop();
    text
}

/// `30/Nov/2026:13:50:15 +0000`, as web servers have it.
fn common(second: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = internet(second);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let month = month.copied().unwrap_or_default();
    format!("{}/{month}/{}:{} +0000", part(8, 10), part(0, 4), part(11, 19))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::wire::Status;

    fn line(format: LineFormat, record: &Answered<'_>) -> String {
        let mut line = Vec::new();
        let at = UNIX_EPOCH + Duration::from_millis(1_796_046_615_250);
        Formatter::new(format).write(record, at, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_is_kept_from_line_to_line_follows_time_and_address() {
        let mut formatter = Formatter::new(LineFormat::Combined);
        let mut lines = Vec::new();
        for (second, address) in [(0, "192.0.2.7"), (0, "::1"), (86_400, "::1"), (86_400, "192.0.2.7")] {
            let record = Answered { from: address.parse().unwrap(), ..record() };
            let at = UNIX_EPOCH + Duration::from_secs(second);
            formatter.write(&record, at, &mut lines);
            let line = String::from_utf8(std::mem::take(&mut lines)).unwrap();
            let day = 1 + second / 86_400;
            assert!(line.starts_with(&format!("{address} - - [0{day}/Jan/1970:00:00:00 +0000] ")), "{line}");
        }
    }

    #[test]
    fn times_are_rounded_and_keep_their_zeros() {
        for (nanoseconds, seconds, milliseconds) in [
            (0, "0.000000", "0.000"),
            (499, "0.000000", "0.000"),
            (1_500, "0.000002", "0.002"),
            (1_050_000, "0.001050", "1.050"),
            (61_000_000_000, "61.000000", "61000.000"),
        ] {
            let record = Answered { took: Duration::from_nanos(nanoseconds), ..record() };
            assert!(line(LineFormat::Combined, &record).ends_with(&format!(" {seconds}\n")));
            let told = line(LineFormat::Json, &record);
            assert!(told.ends_with(&format!("\"took_ms\":{milliseconds}}}\n")), "{told}");
        }
    }

    fn record() -> Answered<'static> {
        Answered {
            ended: Instant::now(),
            took: Duration::from_micros(12),
            from: "192.0.2.7".parse().unwrap(),
            method: "GET",
            what: "article/1",
            status: Status::Ok,
            bytes: 512,
            cache: Cached::Hit,
            port: 8001,
            name: "",
        }
    }

    #[test]
    fn a_line_is_as_the_top_says() {
        let record = record();
        let told = "192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] \"GET /article/1\" 200 512 \"-\" \"-\" hit 8001 0.000012\n";
        assert_eq!(line(LineFormat::Combined, &record), told);
        let told = "{\"time\":\"2026-11-30T13:50:15.250Z\",\"address\":\"192.0.2.7\",\"method\":\"GET\",\"path\":\"/article/1\",\"status\":200,\
            \"code\":\"OK\",\"bytes\":512,\"cache\":\"hit\",\"node\":8001,\"took_ms\":0.012}\n";
        assert_eq!(line(LineFormat::Json, &record), told);
        let named = Answered { name: "eu-1", ..record };
        assert!(line(LineFormat::Combined, &named).contains(" hit eu-1 "));
        assert!(line(LineFormat::Json, &named).contains(r#""node":"eu-1","#));
        let bare = Answered { cache: Cached::Unknown, port: 0, status: Status::Overloaded, ..record };
        assert!(line(LineFormat::Combined, &bare).contains(" 503 512 \"-\" \"-\" - - 0."));
        let told = line(LineFormat::Json, &bare);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert!(told["cache"].is_null() && told["node"].is_null() && told["code"] == "OVERLOADED");
    }
}
