//! Choices that are typed by name: the roles define them, and know nothing of the command line.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::access_log::LineFormat;
use crate::lb::balance::Strategy;
use crate::proxy::PushTtl;
use crate::proxy::cache::CacheType;

impl ValueEnum for CacheType {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Ttl => "What came first goes first; entries expire",
            Self::Lru => "What was not used for longest",
            Self::S3fifo => "What was used only once lately (S3-FIFO): the best hit ratio on most logs",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for LineFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Combined => "As web servers write it; hit, stale or miss, node and seconds behind it",
            Self::Json => "An object a line",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for PushTtl {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Unbounded, Self::Ttl, Self::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Self::Unbounded => {
                "Until it changes; its time to live begins when the origin is not heard any more"
            }
            Self::Ttl => "For its time to live; a change ends it early",
            Self::Off => "For its time to live: changes are not followed",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for Strategy {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    /// A hyphen is as good as an underscore.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.as_str());
        Some(match self {
            Self::RoundRobin => value.alias("round-robin").help("Each in turn"),
            Self::LeastLoaded => value
                .alias("least-loaded")
                .help("The one with the fewest requests in flight, then the fewest in all, then in turn"),
            Self::Hash => value.help("Every key has a home"),
            Self::TwoChoices => {
                value.help("The less loaded of two at random, by what is in flight and how long answers take")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_named_with_a_hyphen_or_an_underscore() {
        for strategy in Strategy::ALL {
            let name = strategy.as_str();
            assert_eq!(Strategy::from_str(name, false), Ok(strategy));
            assert_eq!(Strategy::from_str(&name.replace('_', "-"), false), Ok(strategy));
        }
    }

    #[test]
    fn cache_types_are_read_as_they_are_written() {
        for cache_type in CacheType::ALL {
            assert_eq!(CacheType::from_str(cache_type.name(), false), Ok(cache_type));
        }
    }
}
