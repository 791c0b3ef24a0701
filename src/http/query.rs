//! Queries that documents ignore. A parameter that nobody said to ignore would be dropped in silence, and two requests that
//! differ would get one document.

use std::borrow::Cow;
use std::str::FromStr;

use thiserror::Error;

use crate::wire::escape::decoded;

/// Names of parameters that documents ignore: one name, or all with a prefix (`utm_*`, or `*` for all).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IgnoredQuery {
    name: String,
    is_prefix: bool,
}

/// The error for a text that names no parameters.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("a parameter is named as in utm_source; utm_* is all that begin so, * is every one")]
pub struct IgnoredQueryError;

impl FromStr for IgnoredQuery {
    type Err = IgnoredQueryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_suffix('*').unwrap_or(text);
        match text.is_empty()
            || name.contains(['*', '&', '=', '?', '#'])
            || name.contains(char::is_whitespace)
        {
            true => Err(IgnoredQueryError),
            false => Ok(Self { name: name.to_owned(), is_prefix: name.len() < text.len() }),
        }
    }
}

impl IgnoredQuery {
    fn covers(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.name) } else { name == self.name }
    }
}

/// The first value of a name in a query, as a form writes it; `None` if that is not UTF-8.
pub(super) fn value(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    decoded(&value.replace('+', " ")).map(Cow::into_owned)
}

/// Whether a parameter is to be ignored.
pub(super) fn is_ignored(name: &str, ignored: &[IgnoredQuery]) -> bool {
    ignored.iter().any(|ignored| ignored.covers(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_value() {
        assert_eq!(value("a=1&key=article%2F1", "key").as_deref(), Some("article/1"));
        assert_eq!(value("key=%3Cb%3E+x", "key").as_deref(), Some("<b> x"));
        assert_eq!((value("keys=1", "key"), value("key=%ff", "key")), (None, None));
    }

    #[test]
    fn names_and_prefixes_are_ignored() {
        let ignored: Vec<IgnoredQuery> = ["utm_*", "v"].iter().map(|name| name.parse().unwrap()).collect();
        for (name, is) in
            [("v", true), ("utm_source", true), ("utm_", true), ("user", false), ("version", false)]
        {
            assert_eq!(is_ignored(name, &ignored), is, "{name}");
        }
        assert!(is_ignored("a", &["*".parse().unwrap()]));
        for wrong in ["", "a*b", "a b", "a=1", "**"] {
            assert!(wrong.parse::<IgnoredQuery>().is_err(), "{wrong}");
        }
    }
}
