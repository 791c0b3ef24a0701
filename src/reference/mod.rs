//! Reference for operators and for authors of other clients: pages of Markdown, readable here and in the repository.
//!
//! `tests/pages.rs` holds each page against the program: no flag, METRICS field or metric may be missing or wrong.

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("protocol.md")]
pub mod protocol {}

#[doc = include_str!("settings.md")]
pub mod settings {}
