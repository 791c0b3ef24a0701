//! Random ranks by Zipf's law, which requests for documents follow: the probability of rank `k` is proportional to `k^-s`.
//!
//! By rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", ACM TOMACS 6(3), 1996): it needs no table, and about one random number for each rank.

use fastrand::Rng;

/// Zipf's law over `n` ranks with exponent `s`.
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    n: u64,
    s: f64,
    /// The area under `x^-s` up to the first rank.
    first: f64,
    /// The area under `x^-s` up to the last rank.
    last: f64,
    /// A rank at most this far above `x` is accepted without a further test.
    sure: f64,
}

impl Zipf {
    /// `n` must be at least 1. `s` must not be negative; 0 gives all ranks the same probability.
    pub(super) fn new(n: u64, s: f64) -> Self {
        let mut law = Self { n, s, first: 0.0, last: 0.0, sure: 0.0 };
        law.first = law.area(1.5) - 1.0;
        law.last = law.area(n as f64 + 0.5);
        law.sure = 2.0 - law.area_inverse(law.area(2.5) - law.weight(2.0));
        law
    }

    /// A rank in `0..n`; 0 is the most frequent.
    pub(super) fn sample(&self, random: &mut Rng) -> u64 {
        loop {
            let u = self.last + random.f64() * (self.first - self.last);
            let x = self.area_inverse(u);
            let rank = (x + 0.5).floor().clamp(1.0, self.n as f64);
            if rank - x <= self.sure || u >= self.area(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn weight(&self, x: f64) -> f64 {
        (-self.s * x.ln()).exp()
    }

    /// The integral of the weight, `(x^(1-s) - 1) / (1-s)`, in a form that is exact also for `s` near 1.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.s) * log;
        let ratio = if t.abs() > 1e-8 { t.exp_m1() / t } else { 1.0 + t / 2.0 };
        ratio * log
    }

    fn area_inverse(&self, x: f64) -> f64 {
        // `max`: rounding must not leave the domain of the logarithm.
        let t = (x * (1.0 - self.s)).max(-1.0);
        let ratio = if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t / 2.0 };
        (ratio * x).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(n: u64, s: f64, draws: u32) -> Vec<f64> {
        let (law, mut random) = (Zipf::new(n, s), Rng::with_seed(7));
        let mut counts = vec![0_u32; n as usize];
        (0..draws).for_each(|_| counts[law.sample(&mut random) as usize] += 1);
        counts.into_iter().map(|count| f64::from(count) / f64::from(draws)).collect()
    }

    #[test]
    fn the_frequency_of_each_rank_follows_the_law() {
        for (n, s) in [(10, 1.0), (10, 0.0), (100, 0.8), (100, 2.5), (1, 1.0), (2, 1.0)] {
            let weights: Vec<f64> = (1..=n).map(|rank| (rank as f64).powf(-s)).collect();
            let sum: f64 = weights.iter().sum();
            let counts = counts(n, s, 200_000);
            for (rank, (weight, count)) in weights.iter().zip(counts).enumerate() {
                assert!((weight / sum - count).abs() < 0.005, "n {n} s {s}: rank {rank} came {count}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_ranks() {
        let law = Zipf::new(1 << 40, 1.1);
        let draw = |seed| {
            let mut random = Rng::with_seed(seed);
            (0..100).map(|_| law.sample(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
