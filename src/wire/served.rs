//! What a proxy's reply tells beside the document: how it was served, and its times.

use super::reply::Frame;

/// The members that tell how a proxy served a GET.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Served {
    /// Whether the document was in the cache.
    pub cache_hit: bool,
    /// The port of the proxy.
    pub node: u16,
    /// Seconds since the document was fetched. Written when the document is stale, or for `tell=times`.
    pub age: u32,
    /// Whether the document is past its time to live.
    pub stale: bool,
    /// Seconds for which the document stays fresh; `None` for ever. Written for `tell=times`.
    pub fresh_for: Option<u32>,
    /// The name of the proxy, if it has one. Written in sessions: ports are the same on many machines.
    pub name: Option<&'static str>,
    /// What else is written for `tell=times`.
    pub terms: Terms,
}

/// The terms on which a document is held, for caches in front; and what a miss had to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Terms {
    /// Seconds from the fetch for which the document is fresh: the same for every reply with it. `None` for ever.
    pub lifetime: Option<u32>,
    /// Seconds for which it is served stale while it is fetched anew (RFC 5861).
    pub stale_while_revalidate: u32,
    /// Seconds for which it is served stale while its source fails (RFC 5861).
    pub stale_if_error: u32,
    /// Its source forbids that it is served stale (RFC 9111, section 5.2.2.2).
    pub must_revalidate: bool,
    /// Its source forbids that it is stored.
    pub not_stored: bool,
    /// A miss: the cache had the document, but stale.
    pub was_stale: bool,
    /// A miss: it waited for the fetch of another request.
    pub collapsed: bool,
}

/// Whether a text may name a node: letters, digits, `.`, `_` and `-`, 64 at the most, a letter first. Such a name is the
/// same in JSON and in a header.
pub fn is_node_name(name: &str) -> bool {
    let is_sound = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.len() <= 64
        && name.chars().all(is_sound)
}

impl Served {
    #[inline]
    pub(super) fn frame(&self, tell_times: bool, is_session: bool, out: &mut impl Frame) {
        out.small(match self.cache_hit {
            true => b",\"cache_hit\":true,\"node\":",
            false => b",\"cache_hit\":false,\"node\":",
        });
        out.small(itoa::Buffer::new().format(self.node).as_bytes());
        if self.stale || tell_times || self.name.is_some() {
            self.frame_more(tell_times, is_session, out);
        }
    }

    /// What a plain hit of a node without a name has not. Kept out of its way.
    #[inline(never)]
    fn frame_more(&self, tell_times: bool, is_session: bool, out: &mut impl Frame) {
        let mut number = itoa::Buffer::new();
        if self.stale {
            out.small(b",\"stale\":true");
        }
        if self.stale || tell_times {
            out.small(b",\"age\":");
            out.small(number.format(self.age).as_bytes());
        }
        if let (true, Some(seconds)) = (tell_times, self.fresh_for) {
            out.small(b",\"fresh_for\":");
            out.small(number.format(seconds).as_bytes());
        }
        if let Some(name) = self.name.filter(|_| is_session) {
            out.small(b",\"name\":\"");
            out.small(name.as_bytes());
            out.small(b"\"");
        }
        if tell_times {
            self.terms.frame(out);
        }
    }
}

impl Terms {
    fn frame(&self, out: &mut impl Frame) {
        let mut number = itoa::Buffer::new();
        let seconds: [(&[u8], Option<u32>); 3] = [
            (b",\"lifetime\":", self.lifetime),
            (
                b",\"stale_while_revalidate\":",
                Some(self.stale_while_revalidate).filter(|&seconds| seconds > 0),
            ),
            (b",\"stale_if_error\":", Some(self.stale_if_error).filter(|&seconds| seconds > 0)),
        ];
        for (name, seconds) in seconds {
            if let Some(seconds) = seconds {
                out.small(name);
                out.small(number.format(seconds).as_bytes());
            }
        }
        let flags: [(&[u8], bool); 4] = [
            (b",\"must_revalidate\":true", self.must_revalidate),
            (b",\"not_stored\":true", self.not_stored),
            (b",\"was_stale\":true", self.was_stale),
            (b",\"collapsed\":true", self.collapsed),
        ];
        for (member, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            out.small(member);
        }
    }

    /// Reads one member of a reply; others change nothing.
    pub(super) fn read(&mut self, name: &str, value: &str) {
        match name {
            "lifetime" => self.lifetime = value.parse().ok(),
            "stale_while_revalidate" => self.stale_while_revalidate = value.parse().unwrap_or(0),
            "stale_if_error" => self.stale_if_error = value.parse().unwrap_or(0),
            "must_revalidate" => self.must_revalidate = value == "true",
            "not_stored" => self.not_stored = value == "true",
            "was_stale" => self.was_stale = value == "true",
            "collapsed" => self.collapsed = value == "true",
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reply, ReplyView, Status};

    #[test]
    fn a_name_is_told_in_sessions_only() {
        let reply = Reply::null(Status::NotFound).with(Served { name: Some("a-1"), ..Served::default() });
        let mut line = Vec::new();
        reply.frame(Some(7), false, &mut line);
        assert_eq!(ReplyView::parse(&line[2..line.len() - 1]).unwrap().name, Some("a-1"));
        assert!(!reply.to_line().contains("name"));
    }

    #[test]
    fn terms_are_written_on_request_and_read_back() {
        let terms = Terms {
            lifetime: Some(30),
            stale_while_revalidate: 5,
            stale_if_error: 60,
            must_revalidate: true,
            not_stored: true,
            was_stale: true,
            collapsed: true,
        };
        let reply = Reply::null(Status::NotFound).with(Served { terms, ..Served::default() });
        let mut line = Vec::new();
        reply.frame(None, true, &mut line);
        line.pop();
        assert_eq!(ReplyView::parse(&line).unwrap().terms, terms);
        assert!(!reply.to_line().contains("lifetime"), "only on request");
    }
}
