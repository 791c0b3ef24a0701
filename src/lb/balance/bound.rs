//! Bounded loads: when a home passes a request on to the next home of its key. V. Mirrokni, M. Thorup, M. Zadimoghaddam,
//! "Consistent Hashing with Bounded Loads" (2018), with a floor. Pure.
//!
//! A key that is passed on is kept twice, so a copy must be worth it. A hot key is a copy for many requests: it is passed on
//! as soon as its home has more than its share. Any other waits until the home has more than chance explains, and then the
//! same part of the keys is passed on each time, larger the longer the queue: others need no copy.

/// The bound for hot keys: this times the share of the requests in flight.
const BOUND: f64 = 1.25;
/// Requests in flight beyond that bound that are no queue worth a copy.
const FLOOR: f64 = 8.0;
/// … and this times its square root: arrivals at random scatter by it.
const SCATTER: f64 = 2.0;

/// The requests in flight per weight, at all candidates and the request itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound(f64);

impl Bound {
    /// The bound for one more request beside those in flight, at candidates with this sum of weights.
    pub(super) fn of(in_flight: u64, weight: u64) -> Self {
        Self(BOUND * (in_flight + 1) as f64 / weight as f64)
    }

    /// Whether a candidate of this weight, with so many requests in flight, takes a request. `part`: the place of the key among
    /// those of this home, 0 to 1; keys are passed on from below.
    pub(super) fn takes(self, weight: u32, in_flight: u64, is_hot: bool, part: f64) -> bool {
        let with_it = in_flight as f64 + 1.0;
        let share = (self.0 * f64::from(weight)).ceil();
        if with_it <= share || is_hot {
            return with_it <= share;
        }
        let most = share + FLOOR + SCATTER * share.sqrt();
        // None of the keys is passed on at `most`, half of them at one and a half times that, all of them at twice that.
        part >= with_it / most - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hot_key_is_passed_on_above_the_share_and_others_far_above_it() {
        let bound = Bound::of(29, 300);
        assert!(bound.takes(100, 12, true, 0.0) && !bound.takes(100, 13, true, 0.9));
        // 13, the floor of 8, and twice the root of 13.
        assert!(bound.takes(100, 27, false, 0.0) && !bound.takes(100, 28, false, 0.0));
        assert!(bound.takes(100, 28, false, 0.05));
        assert!(!bound.takes(100, 42, false, 0.45) && bound.takes(100, 42, false, 0.55), "half of the keys");
        assert!(!bound.takes(100, 60, false, 0.99), "a node that is stuck passes all on");
        assert!(bound.takes(200, 24, true, 0.0), "a share by weight");
    }
}
