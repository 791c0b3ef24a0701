//! Queries of documents: no key has one, so a parameter that nobody said to ignore would be dropped in silence, and two
//! requests that differ would get one document.

use std::str::FromStr;

use thiserror::Error;

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

/// The first parameter of a query that is not to be ignored.
pub(super) fn unknown<'a>(query: &'a str, ignored: &[IgnoredQuery]) -> Option<&'a str> {
    let names =
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap_or(pair));
    names.into_iter().find(|name| !ignored.iter().any(|ignored| ignored.covers(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_nobody_said_to_ignore() {
        let ignored: Vec<IgnoredQuery> = ["utm_*", "v"].iter().map(|name| name.parse().unwrap()).collect();
        for query in ["", "&", "v=1", "utm_source=x&v&utm_=1"] {
            assert_eq!(unknown(query, &ignored), None, "{query}");
        }
        assert_eq!(unknown("v=1&user=2", &ignored), Some("user"));
        assert_eq!(unknown("version=1", &ignored), Some("version"));
        assert_eq!(unknown("a=1&b", &["*".parse().unwrap()]), None);
        for wrong in ["", "a*b", "a b", "a=1", "**"] {
            assert!(wrong.parse::<IgnoredQuery>().is_err(), "{wrong}");
        }
    }
}
