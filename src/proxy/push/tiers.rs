//! What the watchers of this node know, for the WATCH with which it asks itself: `all=`.
//!
//! Its upstream may be waiting until a change is known everywhere (`CHANGED … wait=all`). This node knows it as soon as it asks
//! from behind it; those that watch this node are told after that.

use std::collections::VecDeque;

use crate::changes::Changes;
use crate::wire::{All, Position};

/// Changes at once that are on their way to watchers; further ones count as the last of them.
const AT_ONCE: usize = 64;

/// What is on its way to the watchers of this node.
#[derive(Default)]
pub(super) struct Tiers {
    /// Positions of the upstream, and those of this node's own log that stand for them, the first told in front.
    on_their_way: VecDeque<(Position, Position)>,
    /// Up to where of the upstream every watcher knows.
    known: Option<Position>,
}

impl Tiers {
    /// All up to `upstream` was told to the watchers, in whose log that is `own`; `None` if nobody can be told.
    pub(super) fn told(&mut self, upstream: Option<Position>, own: Option<Position>) {
        let (Some(upstream), Some(own)) = (upstream, own) else { return *self = Self::default() };
        if self.on_their_way.len() == AT_ONCE {
            self.on_their_way.pop_back();
        }
        self.on_their_way.push_back((upstream, own));
    }

    /// What the watchers know, for a WATCH from the position `since`.
    pub(super) fn know(&mut self, since: Option<Position>, changes: &Changes) -> All {
        while let Some(&(upstream, own)) = self.on_their_way.front()
            && changes.have_all_heard_of(own)
        {
            self.on_their_way.pop_front();
            self.known = Some(upstream);
        }
        if self.on_their_way.is_empty() {
            return All::AsItself;
        }
        let is_of_epoch = |known: &Position| since.is_some_and(|since| since.epoch == known.epoch);
        self.known.filter(is_of_epoch).map_or(All::Nothing, |known| All::UpTo(known.seq))
    }

    /// Waits until the watchers know more.
    pub(super) async fn know_more(&self, changes: &Changes) {
        match self.on_their_way.front() {
            Some((_, own)) => changes.is_heard_of(*own).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::Watch;

    fn at(seq: u64) -> Option<Position> {
        Some(Position { epoch: 7, seq })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_is_not_known_to_all() {
        let (changes, mut tiers) = (Changes::new(Duration::from_secs(2)), Tiers::default());
        changes.begin();
        tiers.told(at(1), changes.position());
        assert_eq!(tiers.know(at(1), &changes), All::AsItself, "nobody watches");
        let ask = |since| {
            let watch = Watch { since, wait: Duration::ZERO, by: Some(1), all: All::AsItself };
            changes.clone().watch(watch)
        };
        ask(changes.position()).await;
        let own = changes.add(["a/1"]);
        tiers.told(at(2), Some(own));
        assert_eq!(tiers.know(at(2), &changes), All::UpTo(1));
        tokio::join!(tiers.know_more(&changes), ask(Some(own)));
        assert_eq!(tiers.know(at(2), &changes), All::AsItself);
        // In another epoch nothing is known until they have heard of that.
        changes.restart();
        tiers.told(Some(Position { epoch: 8, seq: 5 }), changes.position());
        assert_eq!(tiers.know(Some(Position { epoch: 8, seq: 5 }), &changes), All::Nothing);
        // Nor is it waited for, once their leases are over.
        tiers.know_more(&changes).await;
        assert_eq!(tiers.know(at(2), &changes), All::AsItself);
    }
}
