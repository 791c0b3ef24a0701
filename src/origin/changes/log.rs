//! The log of an origin: the names of documents that have changed, the newest of them kept. Pure: no lock, no clock.

use std::collections::{HashSet, VecDeque};

use crate::wire::Position;

/// The most names that are kept.
const NAMES: usize = 65_536;
/// The most bytes of names that are kept.
const BYTES: usize = 8 << 20;
/// The most names that are told at once: of more, their prefixes are.
const AT_ONCE: usize = 512;

/// A run of changes with numbers from 1, in one epoch.
pub(super) struct Log {
    epoch: u64,
    /// The number of the last change.
    head: u64,
    /// The names of the last changes, that of `head` at the back.
    names: VecDeque<Box<str>>,
    bytes: usize,
}

/// What has changed since a moment.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Since {
    /// Nothing.
    Nothing,
    /// These documents: keys and prefixes (`<prefix>/*`).
    Changed(Vec<String>),
    /// That is not known, or too much: it may be any.
    Unknown,
}

impl Log {
    /// A log without changes, in an epoch that no other log has had.
    pub(super) fn new() -> Self {
        Self { epoch: fastrand::u64(..), head: 0, names: VecDeque::new(), bytes: 0 }
    }

    /// The last change.
    pub(super) fn head(&self) -> Position {
        Position { epoch: self.epoch, seq: self.head }
    }

    /// Adds a change.
    pub(super) fn add(&mut self, name: &str) {
        self.head += 1;
        self.bytes += name.len();
        self.names.push_back(name.into());
        while self.names.len() > NAMES || self.bytes > BYTES {
            let Some(oldest) = self.names.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// What has changed since a moment.
    pub(super) fn since(&self, since: Option<Position>) -> Since {
        let Some(Position { epoch, seq }) = since else { return Since::Unknown };
        let oldest = self.head - self.names.len() as u64;
        if epoch != self.epoch || seq > self.head || seq < oldest {
            return Since::Unknown;
        }
        let missed = || self.names.range((seq - oldest) as usize..).map(|name| &**name);
        match distinct(missed()).or_else(|| distinct(missed().map(prefix))) {
            None => Since::Unknown,
            Some(names) if names.is_empty() => Since::Nothing,
            Some(names) => Since::Changed(names.into_iter().map(written).collect()),
        }
    }
}

/// The different ones among names, in their order; `None` if they are too many.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    let mut known = HashSet::with_hasher(foldhash::fast::RandomState::default());
    let mut distinct = Vec::new();
    for name in names {
        if known.insert(name) {
            if distinct.len() == AT_ONCE {
                return None;
            }
            distinct.push(name);
        }
    }
    Some(distinct)
}

/// The directory that a name is in, with its slash. A tag is in none.
fn prefix(name: &str) -> &str {
    if name.starts_with("tag:") {
        return name;
    }
    &name[..name.rfind('/').map_or(0, |slash| slash + 1)]
}

/// A prefix as a pattern; other names are patterns already.
fn written(name: &str) -> String {
    if name.ends_with('/') { format!("{name}*") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(log: &Log, seq: u64) -> Since {
        log.since(Some(Position { seq, ..log.head() }))
    }

    fn names(of: &[&str]) -> Since {
        Since::Changed(of.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn tells_each_change_once_and_in_order() {
        let mut log = Log::new();
        assert_eq!((after(&log, 0), after(&log, 1)), (Since::Nothing, Since::Unknown));
        for name in ["a/1", "b/*", "a/1", "a/2"] {
            log.add(name);
        }
        assert_eq!(log.head().seq, 4);
        assert_eq!(after(&log, 0), names(&["a/1", "b/*", "a/2"]));
        assert_eq!(after(&log, 2), names(&["a/1", "a/2"]));
        assert_eq!((after(&log, 4), after(&log, 5)), (Since::Nothing, Since::Unknown));
    }

    #[test]
    fn numbers_of_another_epoch_say_nothing() {
        let (mut log, other) = (Log::new(), Log::new());
        log.add("a/1");
        assert_eq!(log.since(Some(other.head())), Since::Unknown);
        assert_eq!(log.since(None), Since::Unknown);
    }

    #[test]
    fn many_names_become_their_prefixes_and_too_many_of_these_anything() {
        let mut log = Log::new();
        (0..AT_ONCE).for_each(|key| log.add(&format!("a/{key}")));
        assert!(matches!(after(&log, 0), Since::Changed(names) if names.len() == AT_ONCE));
        log.add("b/c/1");
        assert_eq!(after(&log, 0), names(&["a/*", "b/c/*"]));
        (0..AT_ONCE).for_each(|key| log.add(&format!("c/{key}/1")));
        assert_eq!(after(&log, 0), Since::Unknown);
    }

    #[test]
    fn forgets_what_is_long_ago() {
        let mut log = Log::new();
        (0..NAMES + 2).for_each(|_| log.add("a/1"));
        assert_eq!((after(&log, 1), after(&log, 2)), (Since::Unknown, names(&["a/1"])));
        let long = ["a/", &"x".repeat(500)].concat();
        (0..NAMES).for_each(|_| log.add(&long));
        assert!(log.bytes <= BYTES && log.names.len() < NAMES);
    }
}
