//! The difference of two METRICS as events: a node is down or back, drained or not, purged; the origin fails or answers.

use std::collections::HashMap;

use super::events::{Events, Kind};
use crate::samples::{NodeHealth, NodeSample, Sample, Tracks};

/// Adds an event for each change from `last` to `next`; `tracks` have seen `next`.
pub(super) fn note_changes(last: Option<&Sample>, next: &Sample, tracks: &Tracks, events: &mut Events) {
    let before: HashMap<&str, NodeHealth> =
        last.iter().flat_map(|last| &last.nodes).map(|node| (&*node.name, node.health)).collect();
    for node in &next.nodes {
        if let Some((kind, text)) = change(before.get(&*node.name).copied(), node) {
            events.note(kind, &node.name, text);
        }
        let purged = tracks.node(&node.name).map_or(0.0, |track| track.step.counts.purged);
        if purged > 0.0 {
            let entries = if purged == 1.0 { "entry" } else { "entries" };
            events.note(Kind::Purge, &node.name, format!("purged {purged} {entries}"));
        }
    }
    match (last.is_some_and(origin_fails), origin_fails(next)) {
        (false, true) => events.note(Kind::Down, "origin", "fails; what is cached is served"),
        (true, false) => events.note(Kind::Back, "origin", "answers again"),
        _ => {}
    }
}

/// Whether the origin fails for one of the nodes.
pub(super) fn origin_fails(sample: &Sample) -> bool {
    sample.nodes.iter().any(|node| node.origin_fails)
}

/// The change of a node's health; `None` before its first sample.
fn change(before: Option<NodeHealth>, node: &NodeSample) -> Option<(Kind, String)> {
    let (kind, text) = match (before, node.health) {
        (Some(NodeHealth::Down), NodeHealth::Down) | (Some(NodeHealth::Drained), NodeHealth::Drained) => {
            return None;
        }
        (_, NodeHealth::Down) if !node.why.is_empty() => (Kind::Down, format!("is down: {}", node.why)),
        (_, NodeHealth::Down) => (Kind::Down, "is down".to_owned()),
        (_, NodeHealth::Drained) => (Kind::Drained, "is drained".to_owned()),
        (Some(NodeHealth::Down), _) => (Kind::Back, "is back".to_owned()),
        (Some(NodeHealth::Drained), _) => (Kind::Back, "takes requests again".to_owned()),
        _ => return None,
    };
    Some((kind, text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn notes_every_change_once() {
        let (mut tracks, mut events, mut last) = (Tracks::default(), Events::default(), None);
        let now = Instant::now();
        let mut add = |node: Value| {
            let next = Sample::from_metrics(&json!({ "proxies": { "a:1": node } }), "").unwrap();
            tracks.add(&next, now);
            note_changes(last.as_ref(), &next, &tracks, &mut events);
            last = Some(next);
        };
        add(json!({ "healthy": true }));
        add(json!({ "healthy": true, "failures_in_a_row": 1 }));
        add(json!({ "healthy": false, "why": "late", "metrics": null }));
        add(json!({ "healthy": false }));
        add(json!({ "healthy": true }));
        add(json!({ "healthy": true, "state": "draining" }));
        add(json!({ "healthy": true, "metrics": { "purged": 1, "origin_failing": true } }));
        add(json!({ "healthy": true, "metrics": { "purged": 4, "origin_failing": true } }));
        add(json!({ "healthy": true, "metrics": { "purged": 4 } }));
        let noted = serde_json::to_value(events.all()).unwrap();
        let texts: Vec<_> =
            noted.as_array().unwrap().iter().map(|event| event["text"].as_str().unwrap()).collect();
        let expected = [
            "is down: late",
            "is back",
            "is drained",
            "takes requests again",
            "fails; what is cached is served",
            "purged 3 entries",
            "answers again",
        ];
        assert_eq!(texts, expected);
    }
}
