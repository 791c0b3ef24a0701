//! Rendezvous hashing: every key has a home, the candidate with the highest score for it, so that a node that joins or
//! leaves moves its share of the keys and no others. D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit
//! Rates" (1998). Pure.

use std::ops::Range;

use super::{Candidate, Candidates};

/// FNV-1a with a final mix: the same at every balancer and in every version of this program.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Spreads every bit over all others: the final step of splitmix64.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
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
///
/// Among candidates of one weight the highest random number has the highest score, and only those higher than all before are
/// asked whether they may: of a thousand some seven.
pub(super) fn home(key: u64, among: &Candidates, may: impl Fn(&Candidate) -> bool) -> Option<&Candidate> {
    let winner = |(run, ids): (Range<usize>, &[u64])| {
        let mut highest = 0;
        let mut winner = None;
        for (place, id) in run.zip(ids) {
            let random = mix(key ^ id);
            if random >= highest && may(&among.all()[place]) {
                (highest, winner) = (random, Some(&among.all()[place]));
            }
        }
        winner.map(|candidate| (score(highest, candidate), candidate))
    };
    let best = among.runs().filter_map(winner).max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map(|(_, candidate)| candidate)
}
