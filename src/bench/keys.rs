//! The keys of the documents to ask for, and their order: each in turn or by Zipf's law.

use std::str::FromStr;
use std::sync::Arc;

use fastrand::Rng;

use super::zipf::Zipf;
use crate::wire::KeyBuf;

/// `article/1..1000`: the keys `article/1` to `article/1000`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    prefix: String,
    first: u64,
    last: u64,
}

/// What to write instead of a text that is not `<prefix><first>..<last>` with `first <= last`.
const SHAPE: &str = "write a range such as article/1..1000";

impl FromStr for KeyRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, last) = text.rsplit_once("..").ok_or(SHAPE)?;
        let prefix = from.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = |text: &str| match text.parse::<u64>() {
            // Keys are text: a/01 and a/1 are two documents.
            Ok(number) if number.to_string() == text => Ok(number),
            Ok(_) | Err(_) => Err(SHAPE),
        };
        let range =
            Self { prefix: prefix.to_owned(), first: number(&from[prefix.len()..])?, last: number(last)? };
        if range.first > range.last || range.last == u64::MAX {
            return Err(SHAPE.to_owned());
        }
        // The last key is the longest: if it is valid, all are.
        KeyBuf::parse(&format!("{prefix}{}", range.last)).map_err(|error| error.to_string())?;
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

    fn write(&self, index: u64, out: &mut Vec<u8>) {
        match self {
            Keys::List(keys) => out.extend_from_slice(keys[index as usize].as_str().as_bytes()),
            Keys::Range(range) => {
                out.extend_from_slice(range.prefix.as_bytes());
                out.extend_from_slice(itoa::Buffer::new().format(range.first + index).as_bytes());
            }
        }
    }
}

/// The order in which one thread asks for the keys.
pub(super) struct KeyOrder {
    keys: Keys,
    choice: KeyChoice,
}

enum KeyChoice {
    /// Thread `i` of `step` threads takes keys `i`, `i + step`, `i + 2 * step`, …, and begins again after the last.
    InTurn {
        next: u64,
        step: u64,
    },
    Uniform(Rng),
    Zipf(Zipf, Rng),
}

impl KeyOrder {
    /// The order of thread `index` of `threads`. `zipf` is the exponent; the first key is then the most frequent.
    pub(super) fn new(keys: Keys, zipf: Option<f64>, seed: u64, index: usize, threads: usize) -> Self {
        let random = Rng::with_seed(seed.wrapping_add(index as u64));
        let choice = match zipf {
            None => KeyChoice::InTurn { next: index as u64, step: threads as u64 },
            Some(0.0) => KeyChoice::Uniform(random),
            Some(exponent) => KeyChoice::Zipf(Zipf::new(keys.len(), exponent), random),
        };
        Self { keys, choice }
    }

    /// Writes the next key.
    pub(super) fn write_next(&mut self, out: &mut Vec<u8>) {
        let count = self.keys.len();
        let index = match &mut self.choice {
            KeyChoice::InTurn { next, step } => {
                let index = *next % count;
                *next = index + *step;
                index
            }
            KeyChoice::Uniform(random) => random.u64(0..count),
            KeyChoice::Zipf(law, random) => law.sample(random),
        };
        self.keys.write(index, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(range: &str, zipf: Option<f64>, index: usize, threads: usize) -> Vec<String> {
        let mut order = KeyOrder::new(Keys::Range(range.parse().unwrap()), zipf, 1, index, threads);
        let mut next = || {
            let mut out = Vec::new();
            order.write_next(&mut out);
            String::from_utf8(out).unwrap()
        };
        (0..4).map(|_| next()).collect()
    }

    #[test]
    fn takes_keys_in_turn_and_begins_again() {
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
    fn refuses_other_texts() {
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
