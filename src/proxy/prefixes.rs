//! Lifetimes of documents beneath a prefix, in place of those of all. Pure.
//!
//! Of several prefixes that a key is beneath, the longest counts, and alone: what it does not say is as for all documents.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::wire::Pattern;

/// The lifetimes beneath one prefix; `None` is as for all documents.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PrefixRule {
    /// Time to live of a document.
    pub ttl: Option<Duration>,
    /// How long after its end a document is served at once, and fetched in the background.
    pub stale_while_revalidate: Option<Duration>,
    /// How long after its end a document is served when the origin fails.
    pub stale_if_error: Option<Duration>,
    /// Time to live of a NOT_FOUND; zero keeps none.
    pub negative_ttl: Option<Duration>,
}

/// The rules by their prefixes, which end with a slash.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Prefixes(BTreeMap<Box<str>, PrefixRule>);

impl Prefixes {
    /// Adds the rule of a pattern that ends with `/*`; of two for one prefix the later counts.
    ///
    /// # Errors
    /// Why the text is no such pattern.
    pub fn add(&mut self, pattern: &str, rule: PrefixRule) -> Result<(), String> {
        match Pattern::parse(pattern) {
            Ok(Pattern::Beneath(prefix)) => {
                self.0.insert(prefix.into(), rule);
                Ok(())
            }
            Ok(Pattern::One(_) | Pattern::Tagged(_)) => {
                Err("write a prefix with a star behind it, such as flags/*".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The longest prefix that a key is beneath, and its rule.
    pub(super) fn of(&self, key: &str) -> Option<(&str, &PrefixRule)> {
        if self.0.is_empty() {
            return None;
        }
        let mut prefixes = key.rmatch_indices('/').map(|(at, _)| &key[..=at]);
        prefixes.find_map(|prefix| self.0.get_key_value(prefix)).map(|(prefix, rule)| (&**prefix, rule))
    }

    /// The prefixes whose rule is another than there, or is only here or only there.
    pub(super) fn differing<'a>(&'a self, there: &'a Self) -> impl Iterator<Item = &'a str> {
        let own = self.0.iter().filter(|(prefix, rule)| there.0.get(*prefix) != Some(rule));
        let others = there.0.keys().filter(|prefix| !self.0.contains_key(*prefix));
        own.map(|(prefix, _)| prefix).chain(others).map(|prefix| &**prefix)
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &PrefixRule> {
        self.0.values()
    }

    /// The patterns and their rules.
    pub fn iter(&self) -> impl Iterator<Item = (Beneath<'_>, &PrefixRule)> {
        self.0.iter().map(|(prefix, rule)| (Beneath(prefix), rule))
    }
}

/// A prefix as it is written: with a star behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beneath<'a>(pub(super) &'a str);

impl fmt::Display for Beneath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}*", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: u64) -> PrefixRule {
        PrefixRule { ttl: Some(Duration::from_secs(seconds)), ..PrefixRule::default() }
    }

    fn prefixes(rules: &[(&str, PrefixRule)]) -> Prefixes {
        let mut prefixes = Prefixes::default();
        rules.iter().for_each(|(pattern, rule)| prefixes.add(pattern, *rule).unwrap());
        prefixes
    }

    #[test]
    fn the_longest_prefix_counts() {
        let prefixes = prefixes(&[("a/*", of(1)), ("a/b/*", of(2)), ("ab/*", of(3))]);
        let found = |key: &str| prefixes.of(key).map(|(prefix, rule)| (prefix, *rule));
        assert_eq!(found("a/1"), Some(("a/", of(1))));
        assert_eq!(found("a/b"), Some(("a/", of(1))));
        assert_eq!(found("a/b/1"), Some(("a/b/", of(2))));
        assert_eq!(found("a/c/b/1"), Some(("a/", of(1))));
        assert_eq!(found("ab/1"), Some(("ab/", of(3))));
        assert_eq!((found("b/a/1"), found("abc/1")), (None, None));
    }

    #[test]
    fn only_prefixes_have_rules() {
        for text in ["flags", "flags/1", "*", "/*", "flags//*", "flags/a*"] {
            assert!(Prefixes::default().add(text, of(1)).is_err(), "{text}");
        }
    }

    #[test]
    fn what_differs_is_told_of_both_sides() {
        let (old, new) = (
            prefixes(&[("a/*", of(1)), ("b/*", of(1)), ("c/*", of(1))]),
            prefixes(&[("a/*", of(1)), ("b/*", of(2)), ("d/*", of(1))]),
        );
        assert_eq!(new.differing(&old).collect::<Vec<_>>(), ["b/", "d/", "c/"]);
        assert_eq!(new.differing(&new).count(), 0);
    }
}
