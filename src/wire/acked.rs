//! The `data` of the reply to CHANGED, at every node.

use serde::{Deserialize, Serialize};

/// Who has heard of a change.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Acked {
    /// The number of the change in the log of the origin, if that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Proxies that have heard of it.
    pub acked: u64,
    /// Proxies that have not, and whose leases have ended meanwhile: times to live count there. Only with `wait=all`.
    pub lapsed: u64,
    /// The node has no upstream that tells other proxies: only it knows of the change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_here: bool,
}

impl Acked {
    /// Nobody but the node itself has heard of it.
    pub const ONLY_HERE: Self = Self { seq: None, acked: 1, lapsed: 0, only_here: true };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read() {
        for (text, acked) in [
            (
                r#"{"seq":58,"acked":16,"lapsed":2}"#,
                Acked { seq: Some(58), acked: 16, lapsed: 2, only_here: false },
            ),
            (r#"{"acked":1,"lapsed":0,"only_here":true}"#, Acked::ONLY_HERE),
        ] {
            assert_eq!(serde_json::to_string(&acked).unwrap(), text);
            assert_eq!(serde_json::from_str::<Acked>(text).unwrap(), acked);
        }
    }
}
