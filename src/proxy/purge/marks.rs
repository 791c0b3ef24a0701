//! The marks of purges: what was purged since the last walk through the cache, by prefix and by tag. Pure: no lock, no clock.
//!
//! A purge of a prefix is a mark with a number. Every entry has the number of the last mark that it was checked against
//! ([`Stamp`]): an entry that is older than the newest mark is checked once, when it is read, and stamped. A walk checks all
//! entries, frees the purged ones, and then the marks up to its beginning are forgotten.
//!
//! Four rules, and what each is for:
//! 1. An entry enters the cache with the number of the newest mark, and only if its fetch began after every mark of its key.
//! 2. An entry is purged by a mark of one of its prefixes or tags with a number greater than its own.
//! 3. A walk stamps every entry that stays. So an entry older than the last whole walk was missed by it, because it had left
//!    the cache by then: it is purged, whatever its key, since the marks that would say so are forgotten.
//! 4. A stamp is replaced only by whoever has read it, so that it never goes back to an older number.
//!
//! A check is one lookup for each slash and question mark of the key, however many marks there are. (A list of purges that every entry is
//! compared with makes the first hit after a storm as slow as the storm was long, as Varnish's bans do.)

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::super::cache::{Entry, Stamp};
use crate::stats::Counter;

/// The most prefixes that are marked at once.
pub(super) const MOST: usize = 4096;

/// The marks.
#[derive(Clone, Default, Debug)]
pub(super) struct Marks {
    newest: Stamp,
    /// The number of the last whole walk.
    walked: Stamp,
    /// By prefix, or `tag:` and a tag.
    by_name: HashMap<Arc<str>, Latest, foldhash::fast::RandomState>,
    /// All entries found, for METRICS.
    purged: Arc<Counter>,
}

/// What a purge makes of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It is not shown any more.
    Hard,
    /// It is stale: its document has changed.
    Outdated,
    /// It is stale.
    Soft,
}

/// The newest marks of one prefix, by their kinds. An older one of the same kind says nothing more.
type Latest = [Option<Mark>; 3];

/// One mark.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// Its number.
    pub(super) number: Stamp,
    /// The entries found for it that no reply has told yet.
    pub(super) found: Arc<AtomicU64>,
}

/// What the marks say about an entry.
enum Found<'a> {
    Nothing,
    Soft(&'a Mark),
    Outdated(&'a Mark),
    /// It must not be shown; without a mark when those that purged it are forgotten.
    Purged(Option<&'a Mark>),
}

impl Marks {
    /// The number of the newest mark.
    pub(super) fn newest(&self) -> Stamp {
        self.newest
    }

    /// All entries found for any mark.
    pub(super) fn purged(&self) -> &Arc<Counter> {
        &self.purged
    }

    /// Whether a walk has nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Prefixes that are marked.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Marks all keys that begin with a prefix, which ends with a slash or with the question mark of parameters, or all
    /// documents of a tag, behind `tag:`. `None` when too many prefixes are marked.
    pub(super) fn add(&mut self, name: &str, kind: Kind) -> Option<Mark> {
        if !self.by_name.contains_key(name) {
            if self.by_name.len() >= MOST {
                return None;
            }
            self.by_name.insert(name.into(), Latest::default());
        }
        let latest = self.by_name.get_mut(name)?;
        let place = &mut latest[kind as usize];
        self.newest = self.newest.next();
        // Replies to purges of one prefix share what is found: each entry is told once.
        let found = place.take().map_or_else(Arc::default, |before| before.found);
        let mark = Mark { number: self.newest, found };
        *place = Some(mark.clone());
        Some(mark)
    }

    /// Checks an entry against the marks that are newer than its stamp, and stamps it. False if it must not be shown.
    pub(super) fn check(&self, entry: &Entry) -> bool {
        // Ends: a stamp changes only towards the newest mark, or to purged.
        loop {
            let stamp = entry.stamp();
            let (after, mark) = self.judge(entry, stamp);
            if after == stamp {
                return !stamp.is_purged();
            }
            if entry.restamp(stamp, after) {
                if let Some(mark) = mark {
                    mark.found.fetch_add(1, Relaxed);
                    self.purged.add_one();
                }
                return !after.is_purged();
            }
        }
    }

    /// The stamp that an entry gets instead of this one, and the mark that it was found for.
    pub(super) fn judge(&self, entry: &Entry, stamp: Stamp) -> (Stamp, Option<&Mark>) {
        if stamp.is_purged() || !stamp.is_before(self.newest) {
            return (stamp, None);
        }
        match self.find(entry, stamp) {
            Found::Nothing => (stamp.at(self.newest), None),
            Found::Soft(mark) => (stamp.at(self.newest).softened(), Some(mark)),
            Found::Outdated(mark) => (stamp.at(self.newest).outdated(), Some(mark)),
            Found::Purged(mark) => (stamp.purged(), mark),
        }
    }

    fn find(&self, entry: &Entry, since: Stamp) -> Found<'_> {
        if since.is_before(self.walked) {
            return Found::Purged(None);
        }
        let mut found = [None; 3];
        let mut look_up = |name: &str| {
            for (found, latest) in found.iter_mut().zip(self.by_name.get(name).into_iter().flatten()) {
                *found = older(*found, latest.as_ref(), since);
            }
        };
        let key = entry.key();
        key.match_indices(['/', '?']).for_each(|(end, _)| look_up(&key[..=end]));
        let policy = entry.policy();
        let tags = policy.iter().flat_map(|policy| policy.tags.split_ascii_whitespace());
        tags.for_each(|tag| look_up(&format!("tag:{tag}")));
        match found {
            [Some(hard), ..] => Found::Purged(Some(hard)),
            [None, Some(outdated), _] => Found::Outdated(outdated),
            [None, None, Some(soft)] => Found::Soft(soft),
            [None, None, None] => Found::Nothing,
        }
    }

    /// A walk that began with the marks up to `number` has checked every entry: they are forgotten.
    pub(super) fn forget(&mut self, number: Stamp) {
        let keep = |mark: &mut Option<Mark>| {
            *mark = mark.take().filter(|mark| number.is_before(mark.number));
            mark.is_some()
        };
        self.by_name.retain(|_, latest| latest.iter_mut().fold(false, |any, mark| keep(mark) | any));
        self.walked = number;
    }
}

/// The older of two marks that are newer than `since`: it found the entry first.
fn older<'a>(best: Option<&'a Mark>, other: Option<&'a Mark>, since: Stamp) -> Option<&'a Mark> {
    let newer = other.filter(|mark| since.is_before(mark.number));
    match (best, newer) {
        (Some(best), Some(newer)) if newer.number.is_before(best.number) => Some(newer),
        (best, newer) => best.or(newer),
    }
}
