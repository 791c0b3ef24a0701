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

/// How far the word of a change has come, among the watchers that had a lease when it was told.
pub(super) struct Behind {
    /// Watchers that it had reached already.
    pub(super) acked: usize,
    /// The ids of those that it has not reached, and the ends of their leases: until then each may show what was before.
    pub(super) waiting: Vec<(u64, Instant)>,
}

impl Behind {
    /// When the last of the leases ends; `None` if nobody is behind.
    pub(super) fn until(&self) -> Option<Instant> {
        self.waiting.iter().map(|(_, until)| *until).max()
    }
}

impl Watcher {
    /// A position of another epoch is of a later one: of that change the watcher knows as well.
    fn has_heard_of(&self, change: Position) -> bool {
        self.heard.is_some_and(|heard| heard.epoch != change.epoch || heard.seq >= change.seq)
    }
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

    /// Whether a change has come to each watcher whose lease has not ended.
    pub(super) fn have_all_heard_of(&self, change: Position, now: Instant) -> bool {
        self.0.values().all(|watcher| watcher.until <= now || watcher.has_heard_of(change))
    }

    /// How far a change has come among the watchers whose leases have not ended.
    pub(super) fn behind(&self, change: Position, now: Instant) -> Behind {
        let live = self.0.iter().filter(|(_, watcher)| watcher.until > now);
        let (acked, waiting): (Vec<_>, Vec<_>) = live.partition(|(_, watcher)| watcher.has_heard_of(change));
        let waiting = waiting.into_iter().map(|(id, watcher)| (*id, watcher.until)).collect();
        Behind { acked: acked.len(), waiting }
    }

    /// Removes the watchers that are behind no longer: how many have heard of the change since, and of how many the lease has
    /// ended. A lease that was renewed without the word lasts longer.
    pub(super) fn look_again(&self, behind: &mut Behind, change: Position, now: Instant) -> (usize, usize) {
        let (mut heard, mut ended) = (0, 0);
        behind.waiting.retain_mut(|(id, until)| match self.0.get(id) {
            Some(watcher) if watcher.has_heard_of(change) => {
                heard += 1;
                false
            }
            watcher => {
                *until = watcher.map_or(*until, |watcher| watcher.until);
                let is_over = *until <= now;
                ended += usize::from(is_over);
                !is_over
            }
        });
        (heard, ended)
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
        let mut behind = watchers.behind(change, now);
        assert_eq!((behind.acked, behind.waiting.len(), behind.until()), (1, 2, Some(end)));
        assert_eq!(watchers.lag(change, now), 5);
        watchers.ask(2, at(6), now, LEASE);
        assert_eq!(watchers.look_again(&mut behind, change, now), (1, 0));
        assert_eq!(watchers.look_again(&mut behind, change, now), (0, 0));
        // One that comes meanwhile is not counted in the place of one that is lost.
        watchers.ask(4, at(6), now, LEASE);
        assert_eq!((watchers.look_again(&mut behind, change, end), behind.until()), ((0, 1), None));
        assert_eq!(watchers.behind(change, end).acked, 0);
    }

    #[test]
    fn in_a_new_epoch_everybody_is_behind() {
        let (mut watchers, now) = (Watchers::default(), Instant::now());
        watchers.ask(1, at(9), now, LEASE);
        watchers.forget_positions();
        assert_eq!(watchers.behind(Position { epoch: 1, seq: 3 }, now).waiting.len(), 1);
        watchers.ask(1, Some(Position { epoch: 2, seq: 0 }), now, LEASE);
        assert_eq!(watchers.behind(Position { epoch: 1, seq: 3 }, now).acked, 1);
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
