//! A reply: exactly one JSON object on one line, of at least `status` and `data`.
//!
//! [`Reply`] is a reply of this node, to be written; [`ReplyView`] reads the line of an upstream.

use std::borrow::Cow;

use bytes::Bytes;
use thiserror::Error;

pub use super::beside::Beside;
use super::changes::{Position, parse_epoch};
use super::document::{Document, DocumentError};
use super::json::{self, JsonError};
use super::meta::Meta;
use super::served::{Served, Terms, is_node_name};
use super::status::Status;

/// A reply, ready to be framed.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How the request went.
    pub status: Status,
    /// The rest of the line.
    pub content: Content,
}

/// What a reply holds beside its status.
#[derive(Clone, Debug)]
pub enum Content {
    /// The members of a reply that this node made.
    Own {
        /// The member `data`.
        data: Data,
        /// The members that a role adds to its replies to GET.
        beside: Beside,
        /// Whether an error is of this document alone. Told in sessions only: `"fault":"document"`.
        blames_document: bool,
    },
    /// The whole line of an upstream, status included and line end excluded. It is sent on as it came.
    Relayed(Bytes),
}

/// The `data` of a reply.
#[derive(Clone, Debug)]
pub enum Data {
    /// `null`.
    Null,
    /// A sentence for people.
    Text(Cow<'static, str>),
    /// A document.
    Document(Document),
    /// JSON that this node made: the `data` of METRICS, EXPLAIN and the like.
    Json(String),
}

/// The buffer that a reply is framed into: small pieces are copied, documents and relayed lines may be shared.
pub trait Frame {
    /// Appends a few bytes.
    fn small(&mut self, bytes: &[u8]);
    /// Appends the text of a document.
    fn document(&mut self, document: &Document);
    /// Appends an upstream's line.
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
    fn own(status: Status, data: Data) -> Self {
        Self { status, content: Content::Own { data, beside: Beside::Nothing, blames_document: false } }
    }

    /// A status and a sentence.
    pub fn text(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self::own(status, Data::Text(text.into()))
    }

    /// OK and a document.
    pub fn document(document: Document) -> Self {
        Self::own(Status::Ok, Data::Document(document))
    }

    /// OK and a value of this node, as JSON. A value that `serde_json` cannot write becomes BAD_REQUEST.
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => Self::own(Status::Ok, Data::Json(text)),
            Err(_) => Self::text(Status::BadRequest, "the answer cannot be written as JSON"),
        }
    }

    /// A status and `null`.
    pub fn null(status: Status) -> Self {
        Self::own(status, Data::Null)
    }

    /// An upstream's line, without its end, that [`ReplyView::parse`] has accepted. `status` is the status in the line.
    pub fn relayed(status: Status, line: Bytes) -> Self {
        Self { status, content: Content::Relayed(line) }
    }

    /// Adds a proxy's members to its own reply; a relayed line has those of its upstream already.
    pub fn with(mut self, added: Served) -> Self {
        if let Content::Own { beside, .. } = &mut self.content {
            *beside = Beside::Served(added);
        }
        self
    }

    /// Adds what a proxy in front asks to know of the document. It is not sent again if `held` is its validator: NOT_MODIFIED.
    pub fn with_meta(mut self, meta: &Meta<'_>, held: Option<&str>) -> Self {
        if let Content::Own { data, beside, .. } = &mut self.content
            && let Some(&served) = beside.served()
        {
            let mut members = Vec::new();
            meta.frame(&mut members);
            *beside = Beside::WithMeta(Box::new((served, members)));
            if self.status == Status::Ok && held.is_some() && held == meta.etag {
                (self.status, *data) = (Status::NotModified, Data::Null);
            }
        }
        self
    }

    /// Adds how far the log of changes was when an origin began to read.
    pub fn read_at(mut self, position: Option<Position>) -> Self {
        if let (Content::Own { beside, .. }, Some(position)) = (&mut self.content, position) {
            *beside = Beside::Position(position);
        }
        self
    }

    /// Says that the error is of this document alone: the source of it answers, and a node in front need not doubt anybody.
    pub fn blaming_document(mut self, blames: bool) -> Self {
        if let Content::Own { blames_document, .. } = &mut self.content {
            *blames_document = blames;
        }
        self
    }

    /// The length of the line in bytes, less the few tens of bytes around `data`.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Relayed(line) => line.len(),
            Content::Own { data, .. } => match data {
                Data::Null => 0,
                Data::Text(text) => text.len(),
                Data::Document(document) => document.len(),
                Data::Json(text) => text.len(),
            },
        }
    }

    /// Writes the line with its end. In a session it begins with the `id` of the request; `tell_times` adds the age of a
    /// fresh document and for how long it stays fresh.
    pub fn frame(&self, id: Option<u64>, tell_times: bool, out: &mut impl Frame) {
        if let Some(id) = id {
            out.small(itoa::Buffer::new().format(id).as_bytes());
            out.small(b" ");
        }
        match &self.content {
            Content::Relayed(line)
                if id.is_none() && !matches!(self.status, Status::Ok | Status::NotFound) =>
            {
                out.small(&without_fault(line));
                out.small(b"\n");
            }
            Content::Relayed(line) => {
                out.line(line);
                out.small(b"\n");
            }
            Content::Own { data, beside, blames_document } => {
                frame_data(self.status, data, out);
                beside.frame(tell_times, id.is_some(), out);
                if *blames_document && id.is_some() {
                    out.small(&FAULT[..FAULT.len() - 1]);
                }
                out.small(b"}\n");
            }
        }
    }

    /// The line without its end, as text for logs and tests.
    pub fn to_line(&self) -> String {
        let mut line = Vec::new();
        self.frame(None, false, &mut line);
        line.pop();
        String::from_utf8(line).unwrap_or_default()
    }
}

/// The end of an error reply in a session that is of one document alone.
const FAULT: &[u8] = b",\"fault\":\"document\"}";

/// An upstream's error line as a plain client gets it: plain replies have no `fault`.
fn without_fault(line: &[u8]) -> Vec<u8> {
    match line.strip_suffix(FAULT) {
        Some(rest) => [rest, b"}"].concat(),
        None => line.to_vec(),
    }
}

/// The members `status` and `data`, and the brace before them.
fn frame_data(status: Status, data: &Data, out: &mut impl Frame) {
    if status == Status::Ok {
        // In one piece: it begins every hit.
        out.small(b"{\"status\":\"OK\",\"data\":");
    } else {
        out.small(b"{\"status\":\"");
        out.small(status.as_str().as_bytes());
        out.small(b"\",\"data\":");
    }
    match data {
        Data::Null => out.small(b"null"),
        Data::Text(text) => out.small(quoted(text).as_bytes()),
        Data::Document(document) => out.document(document),
        Data::Json(text) => out.small(text.as_bytes()),
    }
}

/// A text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// The members of an upstream's line that a node needs; all others are skipped.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ReplyView<'a> {
    /// How the request went.
    pub status: Status,
    /// The raw JSON text of `data`; `null` for an error reply without this member.
    pub data: &'a str,
    /// Whether `data` has white space outside of strings, which a document has not.
    spaced: bool,
    /// Whether the proxy had the document in its cache; `None` from an origin.
    pub cache_hit: Option<bool>,
    /// Whether the document is past its time to live.
    pub stale: bool,
    /// Seconds since the document was fetched, when the line says it.
    pub age: Option<u32>,
    /// Seconds for which the document stays fresh, when the line says it.
    pub fresh_for: Option<u32>,
    /// The port of the proxy that answered; `None` from an origin.
    pub node: Option<u16>,
    /// The name of the proxy that answered, when the line says it.
    pub name: Option<&'a str>,
    /// The terms on which the proxy holds the document, when the line says them.
    pub terms: Terms,
    /// Whether the line says that an error is of this document alone.
    pub blames_document: bool,
    /// How far the log of changes was when the origin began to read, when the line says it.
    pub position: Option<Position>,
    /// What else is known of the document, when the line says it.
    pub meta: Meta<'a>,
}

/// The reason why a line is not a reply: nothing of it is cached or relayed. `blame` says whose fault that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ReplyError {
    /// Not UTF-8, or not exactly one JSON object.
    #[error("the reply is not one JSON object: {0}")]
    NotJson(JsonError),
    /// An object with `data`, which fails there or behind it.
    #[error("the reply has no sound document: {0}")]
    Document(JsonError),
    /// An object with a status, and unusable: of an unknown name, an OK without `data`, or a member that is there twice.
    #[error("the reply has no known status and data")]
    Meaning,
    /// An object without a status.
    #[error("the reply has no status")]
    Shape,
}

impl<'a> ReplyView<'a> {
    /// Reads a line without its end, and checks all of it: `data` may be cached or relayed without another look.
    ///
    /// Unknown members are ignored. Older nodes print floats for whole numbers and put a text behind the status
    /// (`WRONG_METHOD: PUT`); both are accepted.
    ///
    /// # Errors
    /// [`ReplyError`]; a second `status` or `data` is one, because readers would not agree on which one counts.
    pub fn parse(line: &'a [u8]) -> Result<Self, ReplyError> {
        let text = simdutf8::basic::from_utf8(line).map_err(|_| unsound(line, JsonError::Encoding))?;
        let mut status = None;
        let mut data = None;
        let mut twice = false;
        let (mut cache_hit, mut stale, mut age, mut fresh_for, mut node) = (None, false, None, None, None);
        let (mut blames_document, mut name_of_node, mut terms) = (false, None, Terms::default());
        let (mut epoch, mut seq, mut meta) = (None, None, Meta::default());
        json::members(text, |name, value, spaced| match name {
            "status" => twice |= status.replace(value).is_some(),
            "data" => twice |= data.replace((value, spaced)).is_some(),
            "cache_hit" => cache_hit = value.parse().ok(),
            "stale" => stale = value == "true",
            "age" => age = whole(value),
            "fresh_for" => fresh_for = value.parse().ok(),
            "node" => node = whole(value).map(|port| port.min(u16::MAX.into()) as u16),
            "name" => name_of_node = unquoted(value).filter(|name| is_node_name(name)),
            "fault" => blames_document = value == "\"document\"",
            "epoch" => epoch = unquoted(value).and_then(parse_epoch),
            "seq" => seq = value.parse().ok(),
            _ => {
                terms.read(name, value);
                meta.read(name, value);
            }
        })
        .map_err(|error| unsound(line, error))?;
        let status = status.and_then(unquoted).ok_or(ReplyError::Shape)?;
        match (Status::parse(status), data) {
            _ if twice => Err(ReplyError::Meaning),
            (Some(Status::ClientConnectionError) | None, _) | (Some(Status::Ok), None) => {
                Err(ReplyError::Meaning)
            }
            (Some(status), data) => {
                let (data, spaced) = data.unwrap_or(("null", false));
                Ok(Self {
                    status,
                    data,
                    spaced,
                    cache_hit,
                    stale,
                    age,
                    fresh_for,
                    node,
                    name: name_of_node,
                    terms,
                    blames_document,
                    meta,
                    position: epoch.zip(seq).map(|(epoch, seq)| Position { epoch, seq }),
                })
            }
        }
    }

    /// The `data` of an OK as a document, which is read to be held under `key`; to be held under none if that is empty.
    ///
    /// # Errors
    /// `TooLarge` for more than `limit` bytes, white space outside of strings not counted.
    pub fn document(&self, key: &str, limit: usize) -> Result<Document, DocumentError> {
        let document = Document::from_checked(key, self.data, self.spaced);
        match document.len() <= limit {
            true => Ok(document),
            false => Err(DocumentError::TooLarge(limit)),
        }
    }
}

/// What is wrong with a line that is not one JSON object.
fn unsound(line: &[u8], error: JsonError) -> ReplyError {
    match has_data(line) {
        true => ReplyError::Document(error),
        false => ReplyError::NotJson(error),
    }
}

/// Whether a line begins as an object and has a member `data`, in any place: not every node writes it behind the status.
fn has_data(line: &[u8]) -> bool {
    fn behind<'a>(rest: &'a [u8], token: &[u8]) -> Option<&'a [u8]> {
        rest.trim_ascii_start().strip_prefix(token)
    }
    const NAME: &[u8] = b"\"data\"";
    let is_object = behind(line, b"{").is_some_and(|rest| behind(rest, b"\"").is_some());
    let mut names = memchr::memmem::find_iter(line, NAME);
    is_object && names.any(|at| behind(&line[at + NAME.len()..], b":").is_some())
}

/// A whole number. Older nodes print a float for it.
fn whole(number: &str) -> Option<u32> {
    number.parse().ok().or_else(|| number.parse::<f64>().ok().map(|number| number as u32))
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests;
