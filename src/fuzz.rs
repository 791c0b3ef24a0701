//! Random bytes for whatever reads bytes from outside: samples, mutated, with the words that the reader knows.
//!
//! An input whose outcome nothing before it had is a sample for further ones, so inputs grow into what the reader tells
//! apart. Each test runs for a fixed number of inputs from a fixed seed. With `DPROXY_FUZZ_SECONDS=600` it runs for that long
//! from a random seed instead, and prints the inputs that it got through: `DPROXY_FUZZ_SECONDS=600 cargo test --lib any_bytes -- --nocapture`.
//! An input on which the reader fails is printed as a literal of Rust: add it to the samples.

use std::any::type_name_of_val;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::time::Instant;

/// Inputs of each test, when no time is set: some tenths of a second.
const INPUTS: usize = 5_000;
/// The most samples that are kept, and the longest.
const MOST_SAMPLES: usize = 4_096;
const LONGEST: usize = 2_048;

/// What a reader's inputs are made of.
pub(crate) struct Fuzz<'a> {
    /// Sound inputs, and those that it failed on once.
    pub(crate) samples: &'a [&'a [u8]],
    /// What its grammar is made of.
    pub(crate) words: &'a [&'a str],
}

/// What one input came to: whatever the reader tells apart, hashed.
pub(crate) fn outcome(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

impl Fuzz<'_> {
    /// Gives all samples and then mutated ones to `reader`, which panics if it finds a fault and returns the [`outcome`] else.
    pub(crate) fn run(&self, reader: impl Fn(&[u8]) -> u64) {
        let time = std::env::var("DPROXY_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        let end = time.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut random = end.map_or_else(|| fastrand::Rng::with_seed(7), |_| fastrand::Rng::new());
        let mut samples: Vec<Vec<u8>> = self.samples.iter().map(|sample| sample.to_vec()).collect();
        let mut outcomes: HashSet<u64> = samples.iter().map(|sample| watched(&reader, sample)).collect();
        let mut inputs = 0;
        while end.map_or(inputs < INPUTS, |end| inputs % 1_000 > 0 || Instant::now() < end) {
            inputs += 1;
            let input = self.mutated(&samples, &mut random);
            let is_new = outcomes.insert(watched(&reader, &input));
            if is_new && samples.len() < MOST_SAMPLES {
                samples.push(input);
            }
        }
        if end.is_some() {
            let (reader, outcomes) = (type_name_of_val(&reader), outcomes.len());
            let _ = writeln!(std::io::stderr(), "{reader}: {inputs} inputs, {outcomes} outcomes");
        }
    }

    fn mutated(&self, samples: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
        let mut input = random.choice(samples).cloned().unwrap_or_default();
        for _ in 0..1 + random.usize(..4) {
            let at = random.usize(..=input.len());
            let end = (at + random.usize(..=16)).min(input.len());
            match random.u8(..7) {
                0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
                1 => input.insert(at, random.u8(..)),
                2 => drop(input.drain(at..end)),
                3 => input.truncate(at),
                4 => {
                    let again = input[at..end].repeat(1 + random.usize(..8));
                    input.splice(at..at, again);
                }
                5 => {
                    let other = random.choice(samples).map_or(&[][..], |other| other);
                    let from = random.usize(..=other.len());
                    input.splice(at..end, other[from..].iter().copied());
                }
                _ => {
                    let word = random.choice(self.words).copied().unwrap_or_default();
                    input.splice(at..at, word.bytes());
                }
            }
        }
        input.truncate(LONGEST);
        input
    }
}

/// The outcome of an input; a panic, whose reason has been printed by then, names the input.
fn watched(reader: &impl Fn(&[u8]) -> u64, input: &[u8]) -> u64 {
    catch_unwind(AssertUnwindSafe(|| reader(input)))
        .unwrap_or_else(|_| panic!("it fails on b\"{}\"", input.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_three_steps_from_a_sample_is_found() {
        let fuzz = Fuzz { samples: &[b"GET a/1"], words: &["deadline=", "99"] };
        let found = catch_unwind(|| {
            fuzz.run(|input| {
                let text = String::from_utf8_lossy(input);
                let steps = [text.contains("deadline="), text.contains("=99"), text.contains("=9999")];
                assert_ne!(steps, [true; 3], "the fault");
                outcome(steps)
            });
        });
        assert!(found.is_err());
    }
}
