//! The capacity of a simulated cache: `2000` entries, or `1%` of the keys of the trace.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// More entries than a log has keys; the shards of such a cache still fit into memory.
const MAX_ENTRIES: usize = 1_000_000_000;

/// Number of entries that a simulated cache holds at most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Capacity {
    /// A number of entries.
    Entries(usize),
    /// A percentage of the different keys of the trace.
    Percent(f64),
}

/// The text is neither a number of entries nor a percentage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("write entries such as 2000, {MAX_ENTRIES} at the most, or a part of the keys such as 1% or 0.5%")]
pub struct BadCapacity;

impl Capacity {
    /// The capacity in entries for a trace of `keys` different keys: a percentage is rounded, to one at least.
    pub fn entries(self, keys: u64) -> usize {
        match self {
            Capacity::Entries(entries) => entries,
            Capacity::Percent(percent) => ((keys as f64 * percent / 100.0).round() as usize).max(1),
        }
    }
}

impl FromStr for Capacity {
    type Err = BadCapacity;

    fn from_str(text: &str) -> Result<Self, BadCapacity> {
        let capacity = match text.strip_suffix('%') {
            Some(percent) => Capacity::Percent(percent.trim().parse().map_err(|_| BadCapacity)?),
            None => Capacity::Entries(text.replace('_', "").parse().map_err(|_| BadCapacity)?),
        };
        match capacity {
            Capacity::Entries(1..=MAX_ENTRIES) => Ok(capacity),
            Capacity::Percent(percent) if percent > 0.0 && percent <= 100.0 => Ok(capacity),
            _ => Err(BadCapacity),
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capacity::Entries(entries) => write!(f, "{entries}"),
            Capacity::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_entries_and_parts() {
        let entries = |text: &str, keys| text.parse::<Capacity>().map(|capacity| capacity.entries(keys));
        assert_eq!(entries("2000", 10), Ok(2000));
        assert_eq!(entries("1%", 258_368), Ok(2584));
        assert_eq!(entries("0.1%", 13_756), Ok(14));
        assert_eq!(entries("100%", 7), Ok(7));
        assert_eq!(entries("1%", 3), Ok(1));
        for bad in ["", "%", "0", "0%", "-1", "101%", "NaN%", "inf%", "1.5", "10 000", "5%%", "1000000001"] {
            assert_eq!(entries(bad, 100), Err(BadCapacity), "{bad}");
        }
    }
}
