//! Recent events for people: a bounded list, the newest last.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde::Serialize;

/// The limit of events.
const KEPT: usize = 100;

/// The kind of an event; the page colours by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Started,
    Down,
    Back,
    Drained,
    Purge,
}

/// One event.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    /// Grows by one with each event: the page shows only events newer than its last id.
    id: u64,
    /// Milliseconds since 1970.
    at: u64,
    kind: Kind,
    /// The node of the event, or `origin`.
    node: String,
    text: String,
}

/// The list.
#[derive(Default, Debug)]
pub(super) struct Events {
    kept: VecDeque<Event>,
    next: u64,
}

impl Events {
    pub(super) fn note(&mut self, kind: Kind, node: &str, text: impl Into<String>) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        let event =
            Event { id: self.next, at: unix_millis(), kind, node: node.to_owned(), text: text.into() };
        self.kept.push_back(event);
        self.next += 1;
    }

    pub(super) fn all(&self) -> &VecDeque<Event> {
        &self.kept
    }
}

/// The wall clock, for showing only.
pub(super) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_latest() {
        let mut events = Events::default();
        for i in 0..250 {
            events.note(Kind::Purge, "a", i.to_string());
        }
        assert_eq!(events.all().len(), KEPT);
        assert_eq!(events.all().back().map(|event| (event.id, event.text.as_str())), Some((249, "249")));
    }
}
