//! What the flags mean to the links between nodes.

use std::time::Duration;

use crate::net::LinkLimits;

/// What a reply has around its document, at the most.
const AROUND: usize = 4096;

/// Links of a node that `threads` threads serve.
pub(super) fn link_limits(threads: usize, connect_deadline: Duration, max_document: usize) -> LinkLimits {
    LinkLimits {
        sessions: threads,
        connect_deadline,
        max_reply: max_document + AROUND,
        ..LinkLimits::default()
    }
}
