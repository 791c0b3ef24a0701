//! The lifetimes of a prefix as people write them: `flags/*=ttl:2s,negative-ttl:1s`.

use super::proxy::{life, time_to_live};
use super::units;
use crate::proxy::{PrefixRule, Prefixes};

/// What a rule may say.
const TIMES: &str = "ttl, stale-while-revalidate, stale-if-error, negative-ttl";

/// A pattern that ends with `/*`, and its rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PrefixArg {
    pattern: String,
    rule: PrefixRule,
}

/// Reads one rule.
pub(super) fn rule(text: &str) -> Result<PrefixArg, String> {
    let shape =
        || format!("write a prefix and its times, such as flags/*=ttl:2s,negative-ttl:1s; there are {TIMES}");
    let (pattern, times) = text.trim().split_once("/*").ok_or_else(shape)?;
    let times = times.trim_start().strip_prefix('=').ok_or_else(shape)?;
    let mut rule = PrefixRule::default();
    for time in times.split(',').map(str::trim).filter(|time| !time.is_empty()) {
        let (name, value) = time.split_once(':').ok_or_else(shape)?;
        let (name, value) = (name.trim().replace('_', "-"), value.trim());
        let (place, read) = match name.as_str() {
            "ttl" => (&mut rule.ttl, time_to_live(value)),
            "stale-while-revalidate" => (&mut rule.stale_while_revalidate, units::duration(value)),
            "stale-if-error" => (&mut rule.stale_if_error, units::duration(value)),
            "negative-ttl" => (&mut rule.negative_ttl, life(value)),
            _ => return Err(format!("a prefix has no {name:?}; there are {TIMES}")),
        };
        let read = read.map_err(|why| format!("{name}: {why}"))?;
        if place.replace(read).is_some() {
            return Err(format!("{name} stands twice"));
        }
    }
    if rule == PrefixRule::default() {
        return Err(shape());
    }
    let pattern = format!("{pattern}/*");
    Prefixes::default().add(&pattern, rule)?;
    Ok(PrefixArg { pattern, rule })
}

/// All rules; of two for one prefix the later counts.
pub(super) fn all(rules: &[PrefixArg]) -> Prefixes {
    let mut prefixes = Prefixes::default();
    for PrefixArg { pattern, rule } in rules {
        // It was read as a pattern.
        let _ = prefixes.add(pattern, *rule);
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        let second = Some(Duration::from_secs(1));
        let read = rule(" flags/*=ttl:1s, negative_ttl: 0").unwrap();
        let times = PrefixRule { ttl: second, negative_ttl: Some(Duration::ZERO), ..PrefixRule::default() };
        assert_eq!((read.pattern.as_str(), read.rule), ("flags/*", times));
        for (text, why) in [
            ("flags/*", "write a prefix"),
            ("flags/*=", "write a prefix"),
            ("flags=ttl:1s", "write a prefix"),
            ("flags//*=ttl:1s", "empty segment"),
            ("flags/*=ttl:0", "ttl: it must be longer"),
            ("flags/*=ttl:1s,ttl:2s", "twice"),
            ("flags/*=max-ttl:1s", "no \"max-ttl\"; there are ttl,"),
        ] {
            let error = rule(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
