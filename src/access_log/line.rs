//! The form of a line. Keys and names of nodes are of letters that need no quoting in either.
//!
//! ```text
//! 192.0.2.7 - - [30/Nov/2026:13:50:15 +0000] "GET /article/1" 200 512 "-" "-" hit 8001 0.000012
//! {"time":"2026-11-30T13:50:15.250Z","address":"192.0.2.7","method":"GET","path":"/article/1","status":200,
//!  "code":"OK","bytes":512,"cache":"hit","node":8001,"took_ms":0.012}
//! ```

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

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

    /// Appends the line of a request that was answered at `at`.
    pub(super) fn write(self, record: &Answered<'_>, at: SystemTime, out: &mut Vec<u8>) {
        let written = match self {
            Self::Combined => combined(record, at, out),
            Self::Json => json(record, at, out),
        };
        debug_assert!(written.is_ok(), "a write to a Vec cannot fail");
    }
}

impl fmt::Display for LineFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn combined(record: &Answered<'_>, at: SystemTime, out: &mut Vec<u8>) -> std::io::Result<()> {
    let Answered { from, method, what, bytes, took, .. } = record;
    let code = record.status.http_code();
    write!(out, "{from} - - [{}] \"{method} /{what}\" {code} {bytes} \"-\" \"-\"", Common(at))?;
    write!(out, " {} ", record.cache.as_str().unwrap_or("-"))?;
    node(record, "-", "", out)?;
    writeln!(out, " {:.6}", took.as_secs_f64())
}

fn json(record: &Answered<'_>, at: SystemTime, out: &mut Vec<u8>) -> std::io::Result<()> {
    let Answered { from, method, what, status, bytes, took, .. } = record;
    let (time, code) = (humantime::format_rfc3339_millis(at), status.http_code());
    write!(
        out,
        r#"{{"time":"{time}","address":"{from}","method":"{method}","path":"/{what}","status":{code},"code":"{status}","bytes":{bytes}"#
    )?;
    match record.cache.as_str() {
        Some(cache) => write!(out, r#","cache":"{cache}""#)?,
        None => write!(out, r#","cache":null"#)?,
    }
    out.extend_from_slice(br#","node":"#);
    node(record, "null", "\"", out)?;
    writeln!(out, r#","took_ms":{:.3}}}"#, took.as_secs_f64() * 1e3)
}

/// The name of the node that answered, within `quotes`, or its port.
fn node(record: &Answered<'_>, none: &str, quotes: &str, out: &mut Vec<u8>) -> std::io::Result<()> {
    match record {
        Answered { port: 0, name: "", .. } => out.write_all(none.as_bytes()),
        Answered { port, name: "", .. } => write!(out, "{port}"),
        Answered { name, .. } => write!(out, "{quotes}{name}{quotes}"),
    }
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

/// `30/Nov/2026:13:50:15 +0000`, as web servers have it.
struct Common(SystemTime);

impl fmt::Display for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        // 2026-11-30T13:50:15Z
        let text = humantime::format_rfc3339_seconds(self.0).to_string();
        let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        let month = part(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
        let month = month.copied().unwrap_or_default();
        write!(f, "{}/{month}/{}:{} +0000", part(8, 10), part(0, 4), part(11, 19))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::wire::Status;

    fn line(format: LineFormat, record: &Answered<'_>) -> String {
        let mut line = Vec::new();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_796_046_615_250);
        format.write(record, at, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[tokio::test]
    async fn a_line_is_as_the_top_says() {
        let record = Answered {
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
        };
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
