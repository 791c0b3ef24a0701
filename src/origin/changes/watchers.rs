//! Who watches an origin, what each has heard of, and for how long it may still believe that it knows everything. Pure:
//! times come in as arguments.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::Position;

/// The most watchers that get a lease.
const MOST: usize = 4096;

/// The watchers by their ids.
#[derive(Default)]
pub(super) struct Watchers(HashMap<u64, Watcher, foldhash::fast::RandomState>);

#[derive(Clone, Copy)]
struct Watcher {
    /// The moment from which it has asked: everything before has reached it. `None` for nothing of this epoch.
    heard: Option<Position>,
    /// The end of its lease.
    until: Instant,
}

/// How far the word of a change has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Spread {
    /// Watchers that it has reached.
    pub(super) acked: usize,
    /// Watchers that it has not reached, and that may still show what was before.
    pub(super) waiting: usize,
    /// When the last of these must have given up.
    pub(super) at_most_until: Option<Instant>,
}

impl Watchers {
    /// A watcher asks from a moment on. False if it gets no lease, because there are too many.
    pub(super) fn ask(&mut self, id: u64, heard: Option<Position>, now: Instant, lease: Duration) -> bool {
        if self.0.len() >= MOST && !self.0.contains_key(&id) {
            self.0.retain(|_, watcher| watcher.until > now);
            if self.0.len() >= MOST {
                return false;
            }
        }
        // It counts from when it asked, which was before; its clock may run slower by a tenth.
        self.0.insert(id, Watcher { heard, until: now + lease + lease / 10 });
        true
    }

    /// Nobody has heard of anything in the new epoch.
    pub(super) fn forget_positions(&mut self) {
        self.0.values_mut().for_each(|watcher| watcher.heard = None);
    }

    /// How far a change has come among the watchers whose leases have not ended.
    pub(super) fn spread(&self, change: Position, now: Instant) -> Spread {
        let mut spread = Spread::default();
        for watcher in self.0.values().filter(|watcher| watcher.until > now) {
            // A position of another epoch is of a later one: of that change the watcher knows as well.
            let has_heard =
                watcher.heard.is_some_and(|heard| heard.epoch != change.epoch || heard.seq >= change.seq);
            match has_heard {
                true => spread.acked += 1,
                false => {
                    spread.waiting += 1;
                    spread.at_most_until = spread.at_most_until.max(Some(watcher.until));
                }
            }
        }
        spread
    }

    /// The changes that the watcher which is furthest behind has not heard of, of `head` in all.
    pub(super) fn lag(&self, head: Position, now: Instant) -> u64 {
        let live = self.0.values().filter(|watcher| watcher.until > now);
        live.map(|watcher| watcher.heard.map_or(head.seq, |heard| head.seq - heard.seq.min(head.seq)))
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    fn at(seq: u64) -> Option<Position> {
        Some(Position { epoch: 1, seq })
    }

    #[test]
    fn a_change_has_reached_those_who_ask_from_behind_it() {
        let (mut watchers, now) = (Watchers::default(), Instant::now());
        watchers.ask(1, at(5), now, LEASE);
        watchers.ask(2, at(4), now, LEASE);
        watchers.ask(3, None, now, LEASE);
        let change = Position { epoch: 1, seq: 5 };
        let end = now + LEASE * 11 / 10;
        assert_eq!(watchers.spread(change, now), Spread { acked: 1, waiting: 2, at_most_until: Some(end) });
        assert_eq!(watchers.lag(change, now), 5);
        watchers.ask(2, at(6), now, LEASE);
        assert_eq!(watchers.spread(change, now).acked, 2);
        assert_eq!(
            watchers.spread(change, end),
            Spread::default(),
            "whose lease is over shows nothing as fresh"
        );
    }

    #[test]
    fn in_a_new_epoch_everybody_is_behind() {
        let (mut watchers, now) = (Watchers::default(), Instant::now());
        watchers.ask(1, at(9), now, LEASE);
        watchers.forget_positions();
        assert_eq!(watchers.spread(Position { epoch: 1, seq: 3 }, now).waiting, 1);
        watchers.ask(1, Some(Position { epoch: 2, seq: 0 }), now, LEASE);
        assert_eq!(watchers.spread(Position { epoch: 1, seq: 3 }, now).acked, 1);
    }

    #[test]
    fn there_is_a_limit_and_the_dead_make_room() {
        let (mut watchers, now) = (Watchers::default(), Instant::now());
        for id in 0..MOST as u64 {
            assert!(watchers.ask(id, None, now, LEASE));
        }
        assert!(!watchers.ask(u64::MAX, None, now, LEASE) && watchers.ask(7, None, now, LEASE));
        assert!(watchers.ask(u64::MAX, None, now + 2 * LEASE, LEASE));
    }
}
