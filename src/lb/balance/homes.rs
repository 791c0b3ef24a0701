//! Rendezvous hashing: every key has a home, the candidate with the highest score for it, so that a node that joins or
//! leaves moves its share of the keys and no others. D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit
//! Rates" (1998). Pure.
//!
//! To find a home all candidates are compared. Beside many of them, homes that were found are kept until the list changes.

use std::ops::Range;

use super::{Candidate, Candidates};

/// FNV-1a with a final mix: the same at every balancer and in every version of this program.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Spreads every bit over all others: the final step of splitmix64.
pub(super) fn mix(z: u64) -> u64 {
    mix_folded(fold(z))
}

/// The first part of [`mix`]. `fold(a ^ b)` is `fold(a) ^ fold(b)`: it is done once per node and once per key.
pub(super) fn fold(z: u64) -> u64 {
    z ^ (z >> 30)
}

/// The rest of [`mix`].
fn mix_folded(mut z: u64) -> u64 {
    z = z.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The part of the range of a random number that lies below it, 0 to 1.
pub(super) fn part(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// The score of a candidate for a key. A candidate is home to a part of the keys in proportion to its weight.
fn score(random: u64, candidate: &Candidate) -> f64 {
    -f64::from(candidate.drawn()) / part(random).max(f64::MIN_POSITIVE).ln()
}

/// The home of a key among the candidates that `may` take it.
pub(super) fn home(key: u64, among: &Candidates, may: impl Fn(&Candidate) -> bool) -> Option<&Candidate> {
    let kept = among.kept_homes().and_then(|kept| kept.of(key, || best(key, among, |_| true)));
    // The best of all is the best of some if it is one of them.
    let place = kept.filter(|place| may(&among.all()[*place])).or_else(|| best(key, among, may))?;
    Some(&among.all()[place])
}

/// The place of the candidate with the highest score among those that `may`.
///
/// Among candidates of one weight the highest random number has the highest score, and only those higher than all before are
/// asked whether they may: of a thousand some seven.
fn best(key: u64, among: &Candidates, may: impl Fn(&Candidate) -> bool) -> Option<usize> {
    let folded = fold(key);
    let winner = |(run, ids): (Range<usize>, &[u64])| {
        let mut highest = 0;
        let mut winner = None;
        for (place, id) in run.zip(ids) {
            let random = mix_folded(folded ^ id);
            if random >= highest && may(&among.all()[place]) {
                (highest, winner) = (random, Some(place));
            }
        }
        winner.map(|place| (score(highest, &among.all()[place]), place))
    };
    let best = among.runs().filter_map(winner).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, place)| place)
}
