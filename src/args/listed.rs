//! Lists as people write them: commas with spaces behind them, and one at the end.

use std::ffi::OsStr;
use std::fmt::Display;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error, ValueEnum};

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

/// A parser of lists whose items are names of an enumeration.
#[derive(Clone)]
pub struct Choice<T: ValueEnum + Clone + Send + Sync + 'static>(EnumValueParser<T>);

/// The parser of lists of `T`.
pub fn choice<T: ValueEnum + Clone + Send + Sync + 'static>() -> Choice<T> {
    Choice(EnumValueParser::new())
}

impl<T: ValueEnum + Clone + Send + Sync + 'static> TypedValueParser for Choice<T> {
    type Value = Listed<T>;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, text: &OsStr) -> Result<Listed<T>, Error> {
        match text.to_string_lossy().trim() {
            "" => Ok(Listed(None)),
            text => self.0.parse_ref(command, arg, OsStr::new(text)).map(|item| Listed(Some(item))),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
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

    /// Such a list is read by the program, so that none has a way of its own.
    #[test]
    fn every_list_of_the_command_line_is_read_so() {
        let read = |words: &[&str]| crate::args::command().try_get_matches_from(words).map(drop);
        let simulate = ["dproxy", "simulate", "--trace", "x"];
        for words in
            [["--cache-type", "lru, s3fifo,"], ["--capacity", "50%, 2,"], ["--max-bytes", "64KiB, 1MiB,"]]
        {
            read(&[&simulate[..], &words].concat()).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
        for words in [
            ["--prefix", " flags/* = ttl:2s, negative-ttl:1s, ; a/*=ttl:1s;"],
            ["--admin-from", "127.0.0.1, ::1,"],
            ["--http-names", "a, b,"],
            ["--log", " dproxy::lb=debug, info,"],
            ["--port", " 0 "],
            ["--origin-host", " origin "],
        ] {
            read(&[&["dproxy", "proxy"][..], &words].concat())
                .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }
}
