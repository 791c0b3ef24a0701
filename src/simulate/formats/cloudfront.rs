//! Standard logs of CloudFront, in the extended format of the W3C: columns with tabs between them, named in the head.
//!
//! ```text
//! #Version: 1.0
//! #Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status …
//! 2026-11-30⇥13:50:15⇥FRA56-P4⇥512⇥192.0.2.7⇥GET⇥d1.cloudfront.net⇥/article/1⇥200⇥…
//! ```

use super::record::Logged;
use super::time;

/// The columns that matter, in the order of [`Columns`].
const NAMES: [&str; 6] = ["date", "time", "cs-method", "cs-uri-stem", "sc-status", "sc-bytes"];

/// Where each column of [`NAMES`] is.
type Columns = [Option<usize>; NAMES.len()];

/// The columns of one log. Before any head they are the first ones of CloudFront's own order.
pub(super) struct CloudFront {
    columns: Columns,
}

impl Default for CloudFront {
    fn default() -> Self {
        Self { columns: [0, 1, 5, 7, 8, 3].map(Some) }
    }
}

/// Whether a line is one of those in front of the requests.
pub(super) fn is_head(line: &str) -> bool {
    line.starts_with("#Version:") || line.starts_with("#Fields:")
}

impl CloudFront {
    /// Whether a line is part of a head, which is noted. Logs that were joined have several.
    pub(super) fn take_head(&mut self, line: &str) -> bool {
        if let Some(names) = line.strip_prefix("#Fields:") {
            let names: Vec<&str> = names.split_ascii_whitespace().collect();
            self.columns = NAMES.map(|wanted| names.iter().position(|name| *name == wanted));
        }
        line.starts_with('#')
    }

    /// Reads a line; `None` if a column lacks or is not what its name says.
    pub(super) fn read<'a>(&self, line: &'a str) -> Option<Logged<'a>> {
        let values: Vec<&str> = match line.contains('\t') {
            true => line.split('\t').map(str::trim_ascii).collect(),
            false => line.split_ascii_whitespace().collect(),
        };
        let [date, time, method, target, status, bytes] =
            self.columns.map(|column| column.and_then(|column| values.get(column).copied()));
        let at = date.zip(time).and_then(|(date, time)| time::iso(&format!("{date} {time}")));
        // Without its own head, a line is one of CloudFront only if it has a date where that belongs.
        if at.is_none() && date.is_some() {
            return None;
        }
        Some(Logged {
            method: method?.into(),
            target: target?.into(),
            status: status?.parse().ok()?,
            at,
            bytes: bytes.and_then(|bytes| bytes.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Parsed, Parser, Reason, Request, Size, TraceFormat};
    use crate::proxy::cache::Millis;

    const LINE: &str = "2026-11-30\t13:50:15\tFRA56-P4\t812\t192.0.2.7\tGET\td1.cloudfront.net\t/article/1\t200\t-\tcurl/8.5\tlang=en\t-\tHit";

    fn request() -> Parsed {
        let at = Some(Millis(1_796_046_615_000));
        Parsed::Request(Request { key: "article/1".into(), at, size: Size::Bytes(812) })
    }

    #[test]
    fn reads_columns_by_name() {
        let mut parser = Parser::new(TraceFormat::CloudFront);
        assert_eq!(parser.parse("#Version: 1.0"), Parsed::Nothing);
        let head =
            "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status";
        assert_eq!(parser.parse(head), Parsed::Nothing);
        assert_eq!(parser.parse(LINE), request());
        assert_eq!(parser.parse(&LINE.replace("\t200\t", "\t403\t")), Parsed::LeftOut(Reason::Status));
        assert_eq!(parser.parse(&LINE.replace("\t200\t", "\t000\t")), Parsed::LeftOut(Reason::Status));
        assert_eq!(parser.parse(&LINE.replace("GET", "PUT")), Parsed::LeftOut(Reason::Method));
        // A second log, joined, with fewer columns in another order.
        assert_eq!(
            parser.parse("#Fields: sc-status cs-method cs-uri-stem date time sc-bytes"),
            Parsed::Nothing
        );
        assert_eq!(parser.parse("200\tGET\t/article/1\t2026-11-30\t13:50:15\t812"), request());
        assert_eq!(parser.parse("200\tGET"), Parsed::Other);
    }

    #[test]
    fn reads_lines_whose_head_was_cut() {
        assert_eq!(Parser::new(TraceFormat::CloudFront).parse(LINE), request());
        assert_eq!(TraceFormat::of(LINE), Some(TraceFormat::CloudFront));
        assert_eq!(TraceFormat::of("a b c d e GET f /g 200"), None);
    }
}
