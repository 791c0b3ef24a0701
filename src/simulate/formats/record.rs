//! A request as access logs tell it, whatever their format, and whether it counts.

use std::borrow::Cow;

use super::{Parsed, Reason, Request, Size, target};
use crate::proxy::cache::Millis;

/// The columns that matter.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Logged<'a> {
    pub method: Cow<'a, str>,
    /// A path with its query, or a whole URL.
    pub target: Cow<'a, str>,
    pub status: u16,
    pub at: Option<Millis>,
    /// Bytes of the reply.
    pub bytes: Option<u64>,
}

impl Logged<'_> {
    /// GET and HEAD with 200 and 304 count: what a cache may reply to, and what the server had a document for.
    pub(super) fn judged(&self) -> Parsed {
        if !["GET", "HEAD"].contains(&&*self.method) {
            return Parsed::LeftOut(Reason::Method);
        }
        if ![200, 304].contains(&self.status) {
            return Parsed::LeftOut(Reason::Status);
        }
        let Some(key) = target::key(&self.target) else { return Parsed::LeftOut(Reason::Path) };
        let size = match (&*self.method, self.status, self.bytes) {
            ("GET", 200, Some(bytes)) => Size::Bytes(bytes),
            ("GET", 200, None) => Size::Unlogged,
            _ => Size::NoBody,
        };
        Parsed::Request(Request { key: key.into(), at: self.at, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_and_head_count_with_200_and_304() {
        let judged = |method: &'static str, status, target: &'static str, bytes| {
            Logged { method: method.into(), target: target.into(), status, at: None, bytes }.judged()
        };
        let counted = |size| Parsed::Request(Request { key: "a/1".into(), at: None, size });
        assert_eq!(judged("GET", 200, "/a/1?q", Some(7)), counted(Size::Bytes(7)));
        assert_eq!(judged("GET", 200, "/a/1", None), counted(Size::Unlogged));
        assert_eq!(judged("GET", 304, "/a/1", Some(0)), counted(Size::NoBody));
        assert_eq!(judged("HEAD", 200, "/a/1", Some(0)), counted(Size::NoBody));
        assert_eq!(judged("POST", 200, "/a/1", None), Parsed::LeftOut(Reason::Method));
        for status in [101, 206, 301, 404, 500] {
            assert_eq!(judged("GET", status, "/a/1", None), Parsed::LeftOut(Reason::Status));
        }
        assert_eq!(judged("GET", 200, "*", None), Parsed::LeftOut(Reason::Path));
    }
}
