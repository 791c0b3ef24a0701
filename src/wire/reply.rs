//! What a node answers: exactly one JSON object on one line.
//!
//! [`Reply`] is what a node says and how it is framed; [`ReplyView`] is what a peer's line says.

use std::borrow::Cow;

use bytes::Bytes;
use thiserror::Error;

use super::document::{Document, DocumentError};
use super::json::{self, JsonError};
use super::status::Status;

/// An answer, ready to be framed.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How the request went.
    pub status: Status,
    /// What it found.
    pub data: Data,
    /// What a proxy adds to its replies to GET.
    pub served: Option<Served>,
}

/// The `data` of a reply.
#[derive(Clone, Debug)]
pub enum Data {
    /// Nothing.
    Null,
    /// A sentence for people.
    Text(Cow<'static, str>),
    /// A document.
    Document(Document),
    /// JSON that this node made itself: METRICS, EXPLAIN and the like.
    Json(String),
    /// Not only the data: the whole line of a peer, without its end, relayed as it came.
    Line(Bytes),
}

/// How a proxy served a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// Whether the document was in the cache.
    pub cache_hit: bool,
    /// The port of the proxy.
    pub node: u16,
    /// Seconds since the document was fetched; said on the wire when it is past its time, or when the asker wants it.
    pub age: u32,
    /// Whether the document is past its time.
    pub stale: bool,
    /// Seconds that it stays fresh; `None` when it does not expire. Said when the asker wants it.
    pub fresh_for: Option<u32>,
}

/// Where a reply is framed into: small pieces are copied, documents and lines may be shared.
pub trait Frame {
    /// Takes a few bytes.
    fn small(&mut self, bytes: &[u8]);
    /// Takes the text of a document.
    fn document(&mut self, document: &Document);
    /// Takes a peer's line.
    fn line(&mut self, line: &Bytes);
}

impl Frame for Vec<u8> {
    fn small(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn document(&mut self, document: &Document) {
        self.extend_from_slice(document.as_ref());
    }
    fn line(&mut self, line: &Bytes) {
        self.extend_from_slice(line);
    }
}

impl Reply {
    /// A status and a sentence.
    pub fn text(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, data: Data::Text(text.into()), served: None }
    }

    /// OK and a document.
    pub fn document(document: Document) -> Self {
        Self { status: Status::Ok, data: Data::Document(document), served: None }
    }

    /// OK and something that this node counted or knows. `value` must be serialisable as JSON.
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => Self { status: Status::Ok, data: Data::Json(text), served: None },
            Err(_) => Self::text(Status::BadRequest, "the answer cannot be written as JSON"),
        }
    }

    /// A status and nothing.
    pub fn null(status: Status) -> Self {
        Self { status, data: Data::Null, served: None }
    }

    /// A peer's line, without its end, that [`ReplyView::parse`] has found sound.
    pub fn relayed(status: Status, line: Bytes) -> Self {
        Self { status, data: Data::Line(line), served: None }
    }

    /// The same, with what a proxy says of how it was served.
    pub fn with(mut self, served: Served) -> Self {
        self.served = Some(served);
        self
    }

    /// About how long its line is: nothing but what it carries is counted.
    pub fn size(&self) -> usize {
        match &self.data {
            Data::Null => 0,
            Data::Text(text) => text.len(),
            Data::Document(document) => document.len(),
            Data::Json(text) => text.len(),
            Data::Line(line) => line.len(),
        }
    }

    /// Writes the line, its end included, behind the id that it has in a session.
    pub fn frame(&self, id: Option<u64>, tell_times: bool, out: &mut impl Frame) {
        let mut number = itoa::Buffer::new();
        if let Some(id) = id {
            out.small(number.format(id).as_bytes());
            out.small(b" ");
        }
        match &self.data {
            Data::Line(line) => {
                out.line(line);
                return out.small(b"\n");
            }
            Data::Document(document) if self.status == Status::Ok => {
                out.small(b"{\"status\":\"OK\",\"data\":");
                out.document(document);
            }
            data => {
                out.small(b"{\"status\":\"");
                out.small(self.status.as_str().as_bytes());
                out.small(b"\",\"data\":");
                match data {
                    Data::Text(text) => out.small(quoted(text).as_bytes()),
                    Data::Document(document) => out.document(document),
                    Data::Json(text) => out.small(text.as_bytes()),
                    Data::Null | Data::Line(_) => out.small(b"null"),
                }
            }
        }
        if let Some(served) = &self.served {
            out.small(match served.cache_hit {
                true => b",\"cache_hit\":true,\"node\":",
                false => b",\"cache_hit\":false,\"node\":",
            });
            out.small(number.format(served.node).as_bytes());
            if served.stale {
                out.small(b",\"stale\":true");
            }
            if served.stale || tell_times {
                out.small(b",\"age\":");
                out.small(number.format(served.age).as_bytes());
            }
            if let (true, Some(seconds)) = (tell_times, served.fresh_for) {
                out.small(b",\"fresh_for\":");
                out.small(number.format(seconds).as_bytes());
            }
        }
        out.small(b"}\n");
    }

    /// The line without its end, as text for logs and tests.
    pub fn to_line(&self) -> String {
        let mut line = Vec::new();
        self.frame(None, false, &mut line);
        line.pop();
        String::from_utf8(line).unwrap_or_default()
    }
}

/// A text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// What one line of a peer says. Only what a node needs is taken apart.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ReplyView<'a> {
    /// How the request went.
    pub status: Status,
    /// The raw text of `data`; `null` when there was none.
    pub data: &'a str,
    /// Whether `data` holds white space that a document would not have.
    spaced: bool,
    /// A proxy's word whether it had the document.
    pub cache_hit: Option<bool>,
    /// Whether the document is past its time.
    pub stale: bool,
    /// Seconds since it was fetched, if told.
    pub age: Option<u32>,
    /// Seconds that it stays fresh, if told.
    pub fresh_for: Option<u32>,
    /// The port of the proxy that answered, if told.
    pub node: Option<u16>,
}

/// Why a line is no reply. Such a peer failed: nothing of the line is cached or relayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReplyError {
    /// Not exactly one JSON object.
    #[error("the reply is not one JSON object: {0}")]
    NotJson(#[from] JsonError),
    /// A JSON object of another shape.
    #[error("the reply has no known status and data")]
    Shape,
}

impl<'a> ReplyView<'a> {
    /// Checks that a line, its end removed, is one sound reply, and finds its parts.
    ///
    /// Readers ignore members that they do not know; a member that is there twice makes the line unsound.
    pub fn parse(line: &'a [u8]) -> Result<Self, ReplyError> {
        let text = simdutf8::basic::from_utf8(line).map_err(|_| JsonError::Encoding)?;
        let mut status = None;
        let mut data = None;
        let mut twice = false;
        let (mut cache_hit, mut stale, mut age, mut fresh_for, mut node) = (None, false, None, None, None);
        json::members(text, |name, value, spaced| match name {
            "status" => twice |= status.replace(value).is_some(),
            "data" => twice |= data.replace((value, spaced)).is_some(),
            "cache_hit" => cache_hit = value.parse().ok(),
            "stale" => stale = value == "true",
            // Older nodes print floats for whole numbers.
            "age" => age = value.parse::<f64>().ok().map(|seconds| seconds as u32),
            "fresh_for" => fresh_for = value.parse().ok(),
            "node" => node = value.parse::<f64>().ok().map(|port| port as u16),
            _ => {}
        })?;
        let status = status.and_then(unquoted).and_then(Status::parse);
        match (status, data) {
            _ if twice => Err(ReplyError::Shape),
            (Some(Status::ClientConnectionError) | None, _) | (Some(Status::Ok), None) => {
                Err(ReplyError::Shape)
            }
            (Some(status), data) => {
                let (data, spaced) = data.unwrap_or(("null", false));
                Ok(Self { status, data, spaced, cache_hit, stale, age, fresh_for, node })
            }
        }
    }

    /// The `data` of an OK as a document of at most `limit` bytes.
    pub fn document(&self, limit: usize) -> Result<Document, DocumentError> {
        let document = Document::from_checked(self.data, self.spaced);
        match document.len() <= limit {
            true => Ok(document),
            false => Err(DocumentError::TooLarge(limit)),
        }
    }
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes(), 1000).unwrap()
    }

    #[test]
    fn frames_to_the_byte() {
        let served = Served { cache_hit: true, node: 8001, age: 3, stale: false, fresh_for: None };
        let hit = Reply::document(document("[1.10]")).with(served);
        assert_eq!(hit.to_line(), r#"{"status":"OK","data":[1.10],"cache_hit":true,"node":8001}"#);
        let stale = Reply::document(document("[1.10]")).with(Served { stale: true, ..served });
        let line = r#"{"status":"OK","data":[1.10],"cache_hit":true,"node":8001,"stale":true,"age":3}"#;
        assert_eq!(stale.to_line(), line);
        let gone = Reply::null(Status::NotFound);
        assert_eq!(gone.to_line(), r#"{"status":"NOT_FOUND","data":null}"#);
        let bad = Reply::text(Status::BadRequest, "a \"quote\"");
        assert_eq!(bad.to_line(), r#"{"status":"BAD_REQUEST","data":"a \"quote\""}"#);
        let mut framed = Vec::new();
        hit.frame(Some(42), false, &mut framed);
        assert_eq!(framed, b"42 {\"status\":\"OK\",\"data\":[1.10],\"cache_hit\":true,\"node\":8001}\n");
        for (fresh_for, told) in [(Some(27), r#","age":3,"fresh_for":27}"#), (None, r#","age":3}"#)] {
            let mut framed = Vec::new();
            let hit = Reply::document(document("[1.10]")).with(Served { fresh_for, ..served });
            hit.frame(Some(42), true, &mut framed);
            let framed = String::from_utf8(framed).unwrap();
            assert!(framed.ends_with(&format!("\"node\":8001{told}\n")), "{framed}");
            let view = ReplyView::parse(&framed.as_bytes()[3..]).unwrap();
            assert_eq!((view.age, view.fresh_for, view.stale), (Some(3), fresh_for, false));
        }
    }

    #[test]
    fn reads_what_older_nodes_write() {
        let line = br#"{"status": "OK", "data": {"a": [1, 2]}, "cache_hit": false, "node": 8001.0}"#;
        let view = ReplyView::parse(line).unwrap();
        assert_eq!((view.status, view.cache_hit), (Status::Ok, Some(false)));
        assert_eq!(view.document(100).unwrap().as_str(), r#"{"a":[1,2]}"#);
        let view = ReplyView::parse(br#"{"status": "WRONG_METHOD: PUT", "data": null}"#).unwrap();
        assert_eq!(view.status, Status::WrongMethod);
        let view = ReplyView::parse(br#"{"status":"NOT_FOUND","data":"no such thing","new":[{}]}"#).unwrap();
        assert_eq!((view.status, view.data), (Status::NotFound, "\"no such thing\""));
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for line in [
            "",
            "null",
            "[]",
            "{}",
            "OK",
            r#"{"status":"OK"}"#,
            r#"{"status":"YES","data":1}"#,
            r#"{"data":1}"#,
            r#"{"status":1,"data":1}"#,
            r#"{"status":"OK","data":1"#,
            r#"{"status":"OK","data":1}}"#,
            r#"{"status":"OK","data":1} {"status":"OK","data":1}"#,
            r#"{"status":"OK","data":{]}"#,
            r#"{"status":"OK","data":1,"data":2}"#,
            r#"{"status":"CLIENT_CONNECTION_ERROR","data":null}"#,
        ] {
            assert!(ReplyView::parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(ReplyView::parse(b"{\"status\":\"OK\",\"data\":\"\xff\"}").is_err());
    }
}
