//! Lists as people write them: commas with spaces behind them, and one at the end.

use std::fmt::Display;

/// An item of a list; none where nothing stands between two commas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed<T>(Option<T>);

impl<T> From<T> for Listed<T> {
    fn from(item: T) -> Self {
        Self(Some(item))
    }
}

/// A parser of items, from one of their texts.
pub fn item<T, E: Display>(
    parse: impl Fn(&str) -> Result<T, E> + Clone,
) -> impl Fn(&str) -> Result<Listed<T>, String> + Clone {
    move |text| match text.trim() {
        "" => Ok(Listed(None)),
        text => parse(text).map(|item| Listed(Some(item))).map_err(|error| error.to_string()),
    }
}

/// All items of a list.
pub fn all<T: Clone>(list: &[Listed<T>]) -> Vec<T> {
    list.iter().filter_map(|item| item.0.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_a_last_comma_change_nothing() {
        let parse = item(str::parse::<u16>);
        let list: Result<Vec<_>, _> = "1, 2,,\t3 ,".split(',').map(parse.clone()).collect();
        assert_eq!(all(&list.unwrap()), [1, 2, 3]);
        assert!(parse("1 2").is_err() && parse("x").is_err());
    }
}
