//! Parameters of a document, a part of its key: `product/7?fields=price&lang=de`.
//!
//! They are sorted by their names, so that one document has one key; values of one name keep their order. Names and values
//! are escaped as other parts of a key ([`super::escape`]), and may have slashes.

use std::borrow::Cow;

use super::escape::{decoded, encoded, is_canonical};

/// The names of the parameters that documents have: whatever else a request brings is refused.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Parameters(Vec<String>);

/// Why a query of a URL is not that of a key: the parameter that no document has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown<'a>(pub &'a str);

impl Parameters {
    /// These names, unescaped.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| encoded(&name).into_owned()).collect())
    }

    /// Whether no document has any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    /// The first parameter of a key's query that no document has.
    pub fn unknown<'a>(&self, query: &'a str) -> Option<&'a str> {
        query.split('&').map(name).find(|name| !self.has(name))
    }

    /// The query of a key for that of a URL, which may be empty; a `+` is a space, as forms write it. Parameters that are
    /// `ignored` are left out.
    ///
    /// # Errors
    /// The first parameter that is neither known nor ignored.
    pub fn of_url<'a>(&self, query: &'a str, ignored: impl Fn(&str) -> bool) -> Result<String, Unknown<'a>> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = |part: &str| decoded(&part.replace('+', " ")).map(|text| encoded(&text).into_owned());
            match (text(raw).filter(|name| self.has(name)), text(value)) {
                (Some(name), Some(value)) => pairs.push((name, value)),
                _ if ignored(raw) => {}
                _ => return Err(Unknown(raw)),
            }
        }
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"))
    }
}

/// Whether a query is as a key has it.
pub(super) fn is_sorted(query: &str) -> bool {
    let mut before = "";
    query.split('&').all(|pair| {
        let Some((name, value)) = pair.split_once('=') else { return false };
        let follows = before <= name && !name.is_empty();
        before = name;
        follows && is_canonical(name) && is_canonical(value)
    })
}

/// A path with the query of its document.
pub fn with_query<'a>(path: Cow<'a, str>, query: &str) -> Cow<'a, str> {
    if query.is_empty() { path } else { Cow::Owned(format!("{path}?{query}")) }
}

fn name(pair: &str) -> &str {
    pair.split('=').next().unwrap_or(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_a_url_has_one_form_in_a_key() {
        let known = Parameters::new(["lang", "fields", "é"].map(str::to_owned));
        let ignored = |name: &str| name.starts_with("utm_");
        for (query, key) in [
            ("", ""),
            ("&&", ""),
            ("lang=de", "lang=de"),
            ("lang=de&utm_source=x&fields=price", "fields=price&lang=de"),
            ("lang", "lang="),
            ("lang=b&lang=a&", "lang=b&lang=a"),
            ("fields=a%2Cb", "fields=a,b"),
            ("fields=a+b%2Bc%20d", "fields=a%20b+c%20d"),
            ("l%61ng=a=b%26%3d", "lang=a=b%26="),
            ("%c3%a9=/%2f", "%C3%A9=//"),
        ] {
            let read = known.of_url(query, ignored).unwrap();
            assert_eq!(read, key, "{query}");
            assert!(key.is_empty() || is_sorted(key), "{key}");
            assert_eq!(known.unknown(key).filter(|_| !key.is_empty()), None, "{key}");
        }
        for (query, unknown) in [("user=1", "user"), ("lang=%ff", "lang"), ("Lang=de", "Lang"), ("=x", "")] {
            assert_eq!(known.of_url(query, ignored), Err(Unknown(unknown)), "{query}");
        }
        assert_eq!(known.unknown("fields=1&user=2"), Some("user"));
    }

    #[test]
    fn other_forms_are_none() {
        for query in ["", "a", "=1", "b=1&a=1", "a=1&", "a=b c", "a=%41", "a=?", "a=%2F", "a=#"] {
            assert!(!is_sorted(query), "{query}");
        }
        assert!(is_sorted("a=&a=/&b=1=2"));
    }
}
