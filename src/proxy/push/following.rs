//! Which origin's changes are followed, and up to where: pure rules over the words of the origin.
//!
//! A document brings the position of the log at which it was read: the first one says from where on to follow. A document of
//! another epoch is of an origin that has begun anew. One of an epoch that was left a while ago is of another origin behind
//! the same address; then the word of one of them says nothing about the documents of the other, and none is followed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::wire::Position;

/// For this time after an epoch was left, documents of it may still be on their way.
const ON_THEIR_WAY: Duration = Duration::from_secs(10);
/// Epochs that are remembered.
const EPOCHS: usize = 8;

/// Where a proxy follows the changes of its origin.
#[derive(Default)]
pub(super) struct Following {
    /// Up to where changes are known; `None` while none are followed.
    pub(super) position: Option<Position>,
    /// Where that began: what changed up to there is not told any more.
    began_at: u64,
    /// Epochs that were left, and when.
    left: VecDeque<(u64, Instant)>,
}

/// What a document says of the position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// It is of the epoch that is followed, or nothing is followed and nobody tells.
    Nothing,
    /// It was read before the changes that are followed, or it is not known where: changes of it may not be told.
    Untold,
    /// Changes are followed from here on.
    Begins,
    /// It is of another epoch, which is followed from here on.
    Moves,
    /// Several origins answer.
    Several,
}

impl Following {
    /// A document was read at the position `told`.
    pub(super) fn document(&mut self, told: Option<Position>, now: Instant) -> Sign {
        match (self.position, told) {
            (None, None) => Sign::Nothing,
            (None, Some(told)) => {
                (self.position, self.began_at) = (Some(told), told.seq);
                Sign::Begins
            }
            (Some(position), Some(told)) if position.epoch == told.epoch => match told.seq < self.began_at {
                true => Sign::Untold,
                false => Sign::Nothing,
            },
            (Some(_), Some(told)) => self.moves_to(told, now),
            // Such as a plain reply.
            (Some(_), None) => Sign::Untold,
        }
    }

    /// The origin is at this position.
    pub(super) fn moves_to(&mut self, new: Position, now: Instant) -> Sign {
        let Some(old) = self.position.replace(new).filter(|old| old.epoch != new.epoch) else {
            return Sign::Nothing;
        };
        self.began_at = new.seq;
        let has_come_back =
            |(epoch, at): &(u64, Instant)| *epoch == new.epoch && now.duration_since(*at) >= ON_THEIR_WAY;
        if self.left.iter().any(has_come_back) {
            *self = Self::default();
            return Sign::Several;
        }
        if !self.left.iter().any(|(epoch, _)| *epoch == old.epoch) {
            self.left.push_back((old.epoch, now));
            self.left.drain(..self.left.len().saturating_sub(EPOCHS));
        }
        Sign::Moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64) -> Position {
        Position { epoch, seq: 0 }
    }

    #[test]
    fn an_origin_that_begins_anew_is_followed_and_one_of_two_is_not() {
        let (mut following, start) = (Following::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(following.document(None, start), Sign::Nothing);
        assert_eq!(following.document(Some(at(1)), start), Sign::Begins);
        let ninth = Some(Position { epoch: 1, seq: 9 });
        assert_eq!(following.document(ninth, start), Sign::Nothing);
        assert_eq!(following.position, Some(at(1)), "changes up to 9 are not known by that");
        let mut other = Following::default();
        assert_eq!(
            (other.document(ninth, start), other.document(Some(at(1)), start)),
            (Sign::Begins, Sign::Untold)
        );
        assert_eq!(following.document(Some(at(2)), after(1)), Sign::Moves);
        assert_eq!(following.document(Some(at(1)), after(2)), Sign::Moves, "it was on its way");
        assert_eq!(following.moves_to(at(2), after(3)), Sign::Moves);
        assert_eq!(following.moves_to(Position { epoch: 2, seq: 5 }, after(20)), Sign::Nothing);
        assert_eq!(following.document(Some(at(1)), after(20)), Sign::Several);
        assert_eq!(following.position, None);
    }

    #[test]
    fn a_document_without_a_position_changes_nothing() {
        let (mut following, now) = (Following::default(), Instant::now());
        following.document(Some(at(1)), now);
        assert_eq!((following.document(None, now), following.position), (Sign::Untold, Some(at(1))));
    }

    #[test]
    fn few_epochs_are_remembered() {
        let (mut following, now) = (Following::default(), Instant::now());
        following.document(Some(at(1)), now);
        for epoch in 2..40 {
            assert_eq!(following.document(Some(at(epoch)), now), Sign::Moves);
        }
        assert!(following.left.len() <= EPOCHS);
    }
}
