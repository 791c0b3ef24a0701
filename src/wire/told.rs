//! What a reply tells of how it was served, without a look at the document in it: for logs.

use super::reply::{Content, Data, Reply};
use super::served::is_node_name;

/// The members of [`super::Served`] that a reply has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Told<'a> {
    /// Whether a proxy had the document; `None` if none answered.
    pub cache_hit: Option<bool>,
    /// Whether the document is past its time to live.
    pub stale: bool,
    /// The port of that proxy.
    pub node: Option<u16>,
    /// The name of that proxy.
    pub name: Option<&'a str>,
    /// The bytes of `data`, less the quotes around a text.
    pub bytes: usize,
}

/// What every reply with a document begins with.
const BEGIN: &[u8] = b"{\"status\":\"OK\",\"data\":";
/// The first of the members behind `data`. Within a text its quotes would be escaped.
const MEMBERS: &[u8] = b",\"cache_hit\":";
/// The members behind `data` are shorter.
const LONGEST: usize = 512;

impl Reply {
    /// What the reply tells of how it was served. A relayed line is read from its end, where a proxy writes it.
    pub fn told(&self) -> Told<'_> {
        match &self.content {
            Content::Relayed(line) => of_line(line),
            Content::Own { data, beside, .. } => {
                let bytes = match data {
                    Data::Null => 0,
                    Data::Text(text) => text.len(),
                    Data::Document(document) => document.len(),
                    Data::Json(text) => text.len(),
                };
                match beside.served() {
                    Some(served) => Told {
                        cache_hit: Some(served.cache_hit),
                        stale: served.stale,
                        node: Some(served.node),
                        name: served.name,
                        bytes,
                    },
                    None => Told { bytes, ..Told::default() },
                }
            }
        }
    }
}

fn of_line(line: &[u8]) -> Told<'_> {
    let begin = if line.starts_with(BEGIN) { BEGIN.len() } else { 0 };
    let from = line.len().saturating_sub(LONGEST).max(begin);
    let behind = memchr::memmem::rfind(&line[from..], MEMBERS).map(|at| from + at);
    let members = behind.and_then(|at| Some((at, std::str::from_utf8(&line[at..]).ok()?.strip_suffix('}')?)));
    match members {
        // Braces are those of a document that has a member of this name.
        Some((at, members)) if !members.contains(['{', '}', '[', ']']) => {
            Told { bytes: at - begin, ..of_members(members) }
        }
        _ => Told { bytes: line.len() - begin, ..Told::default() },
    }
}

fn of_members(members: &str) -> Told<'_> {
    let mut told = Told::default();
    for (name, value) in members.split(',').filter_map(|member| member.split_once(':')) {
        match name {
            "\"cache_hit\"" => told.cache_hit = value.parse().ok(),
            "\"stale\"" => told.stale = value == "true",
            "\"node\"" => told.node = value.parse().ok(),
            "\"name\"" => told.name = Some(value.trim_matches('"')).filter(|name| is_node_name(name)),
            _ => {}
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::{Document, Served, Status};

    #[test]
    fn a_relayed_line_tells_what_the_reply_told() {
        let document =
            Document::from_checked("a/1", r#"{"a":1,"cache_hit":false,"text":",\"cache_hit\":"}"#, false);
        for reply in [Reply::document(document), Reply::null(Status::NotFound)] {
            for served in [
                Served { node: 8001, name: Some("eu-1"), ..Served::default() },
                Served { cache_hit: true, stale: true, age: 9, node: 1, ..Served::default() },
            ] {
                let own = reply.clone().with(served);
                let mut line = Vec::new();
                own.frame(Some(7), true, &mut line);
                let line = Bytes::copy_from_slice(&line[2..line.len() - 1]);
                let relayed = Reply::relayed(own.status, line);
                let (own, relayed) = (own.told(), relayed.told());
                assert_eq!(relayed.name, own.name);
                assert_eq!(
                    (relayed.cache_hit, relayed.stale, relayed.node),
                    (own.cache_hit, own.stale, own.node)
                );
                assert!(own.bytes == 0 || relayed.bytes == own.bytes, "{relayed:?} {own:?}");
            }
        }
    }

    #[test]
    fn a_document_is_not_taken_for_what_tells_of_it() {
        for data in
            [r#"{"a":1,"cache_hit":true}"#, r#"[{"a":1,"cache_hit":true}]"#, r#"",\"cache_hit\":true""#]
        {
            let line = Bytes::from(format!(r#"{{"status":"OK","data":{data}}}"#));
            assert_eq!(Reply::relayed(Status::Ok, line).told().cache_hit, None, "{data}");
        }
    }
}
