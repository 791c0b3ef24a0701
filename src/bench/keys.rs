//! What is asked for: keys from a file or a range, in turn or by Zipf's law.

use std::str::FromStr;
use std::sync::Arc;

use fastrand::Rng;
use thiserror::Error;

use super::zipf::Zipf;
use crate::wire::KeyBuf;

/// `article/1..1000`: a prefix, and whole numbers from the first to the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    prefix: String,
    first: u64,
    last: u64,
}

/// Why a text is no range of keys.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KeyRangeError {
    /// Not of the form.
    #[error("write a range such as article/1..1000")]
    Shape,
    /// Its keys do not follow the grammar of the wire.
    #[error("{0}")]
    Key(#[from] crate::wire::key::KeyError),
}

impl FromStr for KeyRange {
    type Err = KeyRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, last) = text.rsplit_once("..").ok_or(KeyRangeError::Shape)?;
        let prefix = from.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = |text: &str| match text.parse::<u64>() {
            // A key is text: 01 is not 1.
            Ok(number) if number.to_string() == text => Ok(number),
            Ok(_) | Err(_) => Err(KeyRangeError::Shape),
        };
        let range =
            Self { prefix: prefix.to_owned(), first: number(&from[prefix.len()..])?, last: number(last)? };
        if range.first > range.last || range.last == u64::MAX {
            return Err(KeyRangeError::Shape);
        }
        // The last one is the longest: if it is a key, all are.
        KeyBuf::parse(format!("{prefix}{}", range.last).as_bytes())?;
        Ok(range)
    }
}

/// The keys, shared by all threads.
#[derive(Clone, Debug)]
pub(super) enum Keys {
    List(Arc<[KeyBuf]>),
    Range(KeyRange),
}

impl Keys {
    fn len(&self) -> u64 {
        match self {
            Keys::List(keys) => keys.len() as u64,
            Keys::Range(range) => range.last - range.first + 1,
        }
    }

    /// Writes the key at a place.
    fn write(&self, at: u64, out: &mut Vec<u8>) {
        match self {
            Keys::List(keys) => out.extend_from_slice(keys[at as usize].as_str().as_bytes()),
            Keys::Range(range) => {
                out.extend_from_slice(range.prefix.as_bytes());
                out.extend_from_slice(itoa::Buffer::new().format(range.first + at).as_bytes());
            }
        }
    }
}

/// The order in which one thread asks for them.
pub(super) struct Order {
    keys: Keys,
    choice: Choice,
}

enum Choice {
    /// Each in turn, and the threads take turns.
    InTurn {
        next: u64,
        step: u64,
    },
    Uniform(Rng),
    Zipf(Zipf, Rng),
}

impl Order {
    /// The order of thread `index` of `threads`. The earlier a key stands, the oftener `zipf` asks for it.
    pub(super) fn new(keys: Keys, zipf: Option<f64>, seed: u64, index: usize, threads: usize) -> Self {
        let random = Rng::with_seed(seed.wrapping_add(index as u64));
        let choice = match zipf {
            None => Choice::InTurn { next: index as u64, step: threads as u64 },
            Some(0.0) => Choice::Uniform(random),
            Some(exponent) => Choice::Zipf(Zipf::new(keys.len(), exponent), random),
        };
        Self { keys, choice }
    }

    /// Writes the next key.
    pub(super) fn write_next(&mut self, out: &mut Vec<u8>) {
        let count = self.keys.len();
        let at = match &mut self.choice {
            Choice::InTurn { next, step } => {
                let at = *next % count;
                *next = at + *step;
                at
            }
            Choice::Uniform(random) => random.u64(0..count),
            Choice::Zipf(law, random) => law.sample(random),
        };
        self.keys.write(at, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(range: &str, zipf: Option<f64>, index: usize, threads: usize) -> Vec<String> {
        let mut order = Order::new(Keys::Range(range.parse().unwrap()), zipf, 1, index, threads);
        let mut next = || {
            let mut out = Vec::new();
            order.write_next(&mut out);
            String::from_utf8(out).unwrap()
        };
        (0..4).map(|_| next()).collect()
    }

    #[test]
    fn goes_in_turn_and_round() {
        assert_eq!(order("a/9..11", None, 0, 1), ["a/9", "a/10", "a/11", "a/9"]);
        assert_eq!(order("a/b-1..3", None, 1, 2), ["a/b-2", "a/b-1", "a/b-3", "a/b-2"]);
    }

    #[test]
    fn chooses_within_the_range() {
        for zipf in [0.0, 1.0] {
            assert!(order("a/5..6", Some(zipf), 0, 1).iter().all(|key| key == "a/5" || key == "a/6"));
        }
    }

    #[test]
    fn refuses_what_is_no_range() {
        for text in [
            "",
            "a/1",
            "a/1..",
            "a/..5",
            "a/5..4",
            "1..5",
            "a/../1..5",
            "a/x..y",
            "a/01..10",
            "a/1..18446744073709551615",
        ] {
            assert!(text.parse::<KeyRange>().is_err(), "{text}");
        }
    }
}
