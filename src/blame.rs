//! The fault behind a failure: every reply of an upstream, and every absence of one, is judged here. The proxy's gate
//! (`proxy/gate.rs`), the balancer's health (`lb/health.rs`) and its retries (`lb/attempt.rs`) follow it. A request that was never sent is
//! judged where it is refused (`proxy/upstream.rs`). `tests/README.md` has the same as a table, with what follows.
//!
//! ```text
//!   no reply ────── LinkError ──▶ of_error ──┐
//!   no sound line ─ ReplyError ─▶ of_line ───┼──▶ Document | Doubt | Source | Full | Ours
//!   a reply ─────── ReplyView ──▶ of_reply ──┤
//!   a failed poll ─ LinkError ──▶ of_poll ───┤
//!   a response ──── its status ─▶ of_http ───┘
//! ```
//! Only [`Fault::Source`] counts against a source or a node. Where two cannot be told apart the milder one is taken: a
//! source that is taken for a failing one fails all of its keys.

use crate::net::LinkError;
use crate::wire::reply::ReplyError;
use crate::wire::{ReplyView, Status};

/// Whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Of this document: it is broken, too large, or slow. Its source is well, and so is every node on the way.
    Document,
    /// Of this document, unless the upstream has no document for anybody: then it is the upstream's.
    Doubt,
    /// Of the upstream, or of what that stands before: other documents will probably fail as well.
    Source,
    /// The upstream lives and has reached a limit. Its health is not in doubt.
    Full,
    /// A limit of this node or of its machine. Nothing was learned of the upstream.
    Ours,
}

impl Fault {
    /// The fault of a request without a reply. `answered_others`: whether the upstream answered another request while this one
    /// waited, and not only at the beginning of that.
    pub fn of_error(error: LinkError, answered_others: bool) -> Self {
        match error {
            // The bytes may have been a document: one that is longer than we take, or not UTF-8.
            LinkError::TooLong | LinkError::NotText => Fault::Document,
            // Slow is a matter of a key first: an upstream that answers others meanwhile is well.
            LinkError::Late if answered_others => Fault::Document,
            LinkError::Late
            | LinkError::Refused
            | LinkError::Unresolved
            | LinkError::Broken
            | LinkError::Garbage
            | LinkError::Tls(_) => Fault::Source,
            LinkError::Busy | LinkError::Exhausted => Fault::Ours,
        }
    }

    /// The fault of a poll without a reply. `answered`: whether the node answered anything at all meanwhile.
    pub fn of_poll(error: LinkError, answered: bool) -> Self {
        match error {
            // It is full of connections and turned this one away, while it answers requests on others.
            LinkError::Broken | LinkError::Refused if answered => Fault::Full,
            error => Self::of_error(error, answered),
        }
    }

    /// The fault of a line that is not a sound reply.
    pub fn of_line(error: ReplyError) -> Self {
        match error {
            // NaN, nesting, a bad byte, an end that is missing.
            ReplyError::Document(_) => Fault::Document,
            // An error in words of the upstream's own, or a document that it left out: it speaks the protocol.
            ReplyError::Meaning => Fault::Document,
            ReplyError::NotJson(_) | ReplyError::Shape => Fault::Source,
        }
    }

    /// The fault of a sound reply without a document; `None` for OK and NOT_FOUND, which are no failures.
    pub fn of_reply(reply: &ReplyView<'_>) -> Option<Self> {
        match reply.status {
            Status::Ok | Status::NotFound => None,
            Status::Overloaded => Some(Fault::Full),
            // The upstream's own upstream failed, unless it says that only this document did.
            Status::OriginFailure | Status::ProxyUnreachable | Status::ProxyError
                if !reply.blames_document =>
            {
                Some(Fault::Source)
            }
            _ => Some(Fault::Document),
        }
    }

    /// The fault of a response of an API with a status that is neither a document nor the word that there is none.
    ///
    /// A gateway or a load balancer before the API speaks for all of it; a status of the API itself is about one document
    /// first. But 401 and 403 may be about what this proxy may read at all, and 500 about a program that fails for
    /// every document: that shows when no other document comes in between.
    pub fn of_http(status: u16) -> Self {
        match status {
            // A limit of requests from this proxy, not of the API.
            429 => Fault::Full,
            // Request timeout, proxy authentication; unavailable, a bad or silent way behind a gateway, and what networks
            // before APIs have for the same (520 to 530).
            407 | 408 | 502 | 503 | 504 | 511 | 520..=530 => Fault::Source,
            401 | 403 | 500..=599 => Fault::Doubt,
            _ => Fault::Document,
        }
    }

    /// Whether a proxy or a balancer in front of this node need not doubt it, nor ask another: `"fault":"document"`.
    pub fn is_of_document(self) -> bool {
        matches!(self, Fault::Document | Fault::Doubt | Fault::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Fault> {
        match ReplyView::parse(line.as_bytes()) {
            Ok(reply) => Fault::of_reply(&reply),
            Err(error) => Some(Fault::of_line(error)),
        }
    }

    #[test]
    fn a_reply_has_the_fault_that_it_names() {
        for (line, fault) in [
            (r#"{"status":"OK","data":1}"#, None),
            (r#"{"status":"NOT_FOUND","data":null}"#, None),
            (r#"{"status":"BAD_DOCUMENT","data":"x"}"#, Some(Fault::Document)),
            (r#"{"status":"FORBIDDEN","data":"x"}"#, Some(Fault::Document)),
            (r#"{"status":"OVERLOADED","data":"x"}"#, Some(Fault::Full)),
            (r#"{"status":"ORIGIN_FAILURE","data":"x"}"#, Some(Fault::Source)),
            (r#"{"status":"ORIGIN_FAILURE","data":"x","fault":"document"}"#, Some(Fault::Document)),
            (r#"{"status":"PROXY_ERROR","data":"x"}"#, Some(Fault::Source)),
        ] {
            assert_eq!(of(line), fault, "{line}");
        }
    }

    #[test]
    fn a_line_with_a_status_or_a_document_is_the_documents_fault() {
        let deep = format!(r#"{{"status":"OK","data":{}1}}"#, "[".repeat(200));
        for line in [
            r#"{"status":"OK","data":{"a":NaN}}"#,
            r#"{"status": "OK", "data": {"a"#,
            &deep,
            r#"{"data": NaN, "status": "OK"}"#,
            r#"{"cache_hit": true, "data" : [, "status": "OK"}"#,
            r#"{"status":"INTERNAL_ERROR","data":"x"}"#,
            r#"{"status":"TEAPOT"}"#,
            r#"{"status":"OK"}"#,
            r#"{"status":"OK","data":1,"data":2}"#,
        ] {
            assert_eq!(of(line), Some(Fault::Document), "{line}");
        }
        let latin = ReplyView::parse(b"{\"status\":\"OK\",\"data\":\"\xe9\"}").unwrap_err();
        assert_eq!(Fault::of_line(latin), Fault::Document);
        for line in
            ["hello", "HTTP/1.1 200 OK", "[]", "{}", r#"{"error":1}"#, r#"{"status":7}"#, r#"["data":NaN]"#]
        {
            assert_eq!(of(line), Some(Fault::Source), "{line}");
        }
    }

    #[test]
    fn a_status_of_http_has_a_fault() {
        for (status, fault) in [
            (204, Fault::Document),
            (400, Fault::Document),
            (401, Fault::Doubt),
            (403, Fault::Doubt),
            (408, Fault::Source),
            (429, Fault::Full),
            (451, Fault::Document),
            (500, Fault::Doubt),
            (502, Fault::Source),
            (503, Fault::Source),
            (504, Fault::Source),
            (522, Fault::Source),
        ] {
            assert_eq!(Fault::of_http(status), fault, "{status}");
        }
    }

    #[test]
    fn a_node_that_answers_others_fails_no_poll() {
        for (error, fault) in [(LinkError::Broken, Fault::Full), (LinkError::Late, Fault::Document)] {
            assert_eq!(Fault::of_poll(error, true), fault);
            assert_eq!(Fault::of_poll(error, false), Fault::Source);
        }
        assert_eq!(Fault::of_poll(LinkError::Exhausted, true), Fault::Ours);
    }

    #[test]
    fn a_late_reply_is_the_keys_fault_while_others_are_answered() {
        assert_eq!(Fault::of_error(LinkError::Late, true), Fault::Document);
        assert_eq!(Fault::of_error(LinkError::Late, false), Fault::Source);
        assert_eq!(Fault::of_error(LinkError::Busy, false), Fault::Ours);
        assert_eq!(Fault::of_error(LinkError::TooLong, false), Fault::Document);
    }
}
