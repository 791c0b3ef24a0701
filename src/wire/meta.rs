//! What is known of a document beside its text, for a proxy in front: how long it lives, what it is known by, and its tags, as
//! its source said. Told in sessions to `meta=1`.
//!
//! ```text
//! 7 GET a/1 tell=times meta=1              7 {"status":"OK",…,"ttl_ms":59000,"sie_ms":0,"etag":"W/%22x%22","tags":"eu de"}
//! 8 GET a/1 tell=times meta=1 if=W/%22x%22 8 {"status":"NOT_MODIFIED","data":null,…,"ttl_ms":58000,…}
//! ```

use super::reply::Frame;

/// The longest validator that is told, in bytes of its token: a request line has room for it, whatever its key is.
const LONGEST_TOKEN: usize = 1024;

/// The members of a reply for a proxy in front. `None` is left out: the source of the document is silent, and so are nodes
/// from before.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Meta<'a> {
    /// For how many milliseconds from now on the document is fresh; 0 where each use is to ask.
    pub ttl_ms: Option<u64>,
    /// For how many milliseconds after that it is served stale while it is fetched anew (RFC 5861).
    pub swr_ms: Option<u64>,
    /// For how many milliseconds it is served stale while its source fails (RFC 5861).
    pub sie_ms: Option<u64>,
    /// The [`token`] of its validator.
    pub etag: Option<&'a str>,
    /// Its tags, with a space between two.
    pub tags: Option<&'a str>,
}

impl<'a> Meta<'a> {
    /// Writes the members, each behind a comma.
    pub(super) fn frame(&self, out: &mut impl Frame) {
        let mut number = itoa::Buffer::new();
        let times: [(&[u8], Option<u64>); 3] =
            [(b",\"ttl_ms\":", self.ttl_ms), (b",\"swr_ms\":", self.swr_ms), (b",\"sie_ms\":", self.sie_ms)];
        for (name, ms) in times {
            if let Some(ms) = ms {
                out.small(name);
                out.small(number.format(ms).as_bytes());
            }
        }
        // Neither has a letter that JSON escapes.
        let texts: [(&[u8], Option<&str>); 2] = [(b",\"etag\":\"", self.etag), (b",\"tags\":\"", self.tags)];
        for (name, text) in texts {
            if let Some(text) = text {
                out.small(name);
                out.small(text.as_bytes());
                out.small(b"\"");
            }
        }
    }

    /// Reads one member of a reply; others change nothing.
    pub(super) fn read(&mut self, name: &str, value: &'a str) {
        let text = || value.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'));
        match name {
            "ttl_ms" => self.ttl_ms = value.parse().ok(),
            "swr_ms" => self.swr_ms = value.parse().ok(),
            "sie_ms" => self.sie_ms = value.parse().ok(),
            "etag" => self.etag = text(),
            "tags" => self.tags = text(),
            _ => {}
        }
    }
}

/// A validator as a word of the line: bytes that are not visible ASCII, and `%`, `"` and `\`, are `%XX`. `None` for one that
/// is too long.
pub fn token(validator: &[u8]) -> Option<String> {
    let stays = |byte: u8| byte.is_ascii_graphic() && !b"%\"\\".contains(&byte);
    let mut token = String::with_capacity(validator.len() + 8);
    for &byte in validator {
        match stays(byte) {
            true => token.push(byte.into()),
            false => super::escape::escape(byte, &mut token),
        }
    }
    (!token.is_empty() && token.len() <= LONGEST_TOKEN).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::escape::unescaped;
    use crate::wire::{Reply, ReplyView, Served, Status};

    fn line(reply: &Reply) -> Vec<u8> {
        let mut line = Vec::new();
        reply.frame(Some(7), true, &mut line);
        line.pop();
        line.split_off(2)
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let all = Meta {
            ttl_ms: Some(59_000),
            swr_ms: Some(0),
            sie_ms: Some(u64::MAX),
            etag: Some("W/%22x%22"),
            tags: Some("eu de"),
        };
        for meta in [all, Meta::default(), Meta { tags: Some("eu"), ..Meta::default() }] {
            let reply = Reply::null(Status::NotFound).with(Served::default()).with_meta(&meta, None);
            let line = line(&reply);
            let view = ReplyView::parse(&line).unwrap();
            assert_eq!(view.meta, meta);
            assert!(!reply.to_line().contains("ttl_ms"), "only in sessions");
        }
    }

    #[test]
    fn a_document_that_is_held_is_not_sent_again() {
        let meta = Meta { etag: Some("x"), ..Meta::default() };
        let reply = |held| {
            let document = crate::wire::Document::parse(b"[1]", 9).unwrap();
            Reply::document(document).with(Served::default()).with_meta(&meta, held)
        };
        assert_eq!((reply(Some("x")).status, reply(Some("x")).size()), (Status::NotModified, 0));
        assert!([None, Some("y")].iter().all(|held| reply(*held).status == Status::Ok));
        let none = Reply::null(Status::NotFound).with(Served::default()).with_meta(&meta, Some("x"));
        assert_eq!(none.status, Status::NotFound, "there is none any more");
    }

    #[test]
    fn a_validator_is_one_word_and_comes_back_as_it_was() {
        for validator in [&b"W/\"a b%20\\\""[..], b"\"\xff\xe9\n\"", b"Mon, 30 Nov 2026 12:00:00 GMT"] {
            let token = token(validator).unwrap();
            assert!(token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{token}");
            assert_eq!(unescaped(&token), validator);
        }
        assert_eq!((token(b""), token(&[b'x'; 1025]), token(&[b'"'; 500])), (None, None, None));
    }
}
