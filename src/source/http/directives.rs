//! The directives of Cache-Control (RFC 9111, section 5.2), and of the header for caches of our kind (RFC 9213). Pure.

use hyper::header::{GetAll, HeaderValue};

/// The longest time, in seconds (RFC 9111, section 1.2.2).
const LONGEST: u32 = 1 << 31;

/// A directive whose argument is a number of seconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Seconds {
    /// It is not there.
    #[default]
    Unsaid,
    /// It is there once, with a number.
    Said(u32),
    /// It is there twice, or without a number.
    Unsound,
}

impl Seconds {
    /// The number, zero for an unsound one: what is unsound is stale.
    pub(super) fn or_zero(self) -> Option<u32> {
        match self {
            Seconds::Unsaid => None,
            Seconds::Said(seconds) => Some(seconds),
            Seconds::Unsound => Some(0),
        }
    }

    fn note(&mut self, argument: Option<&[u8]>) {
        *self = match (*self, argument.and_then(number)) {
            (Seconds::Unsaid, Some(seconds)) => Seconds::Said(seconds),
            _ => Seconds::Unsound,
        };
    }
}

/// The directives that a shared cache follows.
#[derive(PartialEq, Eq, Default, Debug)]
pub(super) struct Directives {
    pub(super) max_age: Seconds,
    pub(super) s_maxage: Seconds,
    pub(super) stale_while_revalidate: Seconds,
    pub(super) stale_if_error: Seconds,
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    /// Or proxy-revalidate.
    pub(super) must_revalidate: bool,
}

impl Directives {
    /// Those of all lines of Cache-Control together.
    pub(super) fn of(lines: GetAll<'_, HeaderValue>) -> Self {
        let mut directives = Self::default();
        for line in lines {
            for (name, argument) in ListItems(line.as_bytes()) {
                directives.note(name, argument);
            }
        }
        directives
    }

    /// Those of CDN-Cache-Control, a dictionary of structured fields (RFC 9651, section 3.2). `None` if it is not there, empty,
    /// or no such dictionary: then it counts as not there (RFC 9213, section 2.1).
    pub(super) fn targeted(lines: GetAll<'_, HeaderValue>) -> Option<Self> {
        let mut members: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
        for line in lines {
            for (name, value) in ListItems(line.as_bytes()) {
                // Parameters say nothing here.
                let name = before_parameters(name);
                let value = value.map(before_parameters);
                if !is_sf_key(name) || value.is_some_and(|value| !is_sf_item(value)) {
                    return None;
                }
                // The last of several counts (RFC 9651, section 4.2.2).
                members.retain(|(other, _)| *other != name);
                members.push((name, value));
            }
        }
        let mut directives = Self::default();
        members.iter().for_each(|(name, value)| directives.note(name, *value));
        (!members.is_empty()).then_some(directives)
    }

    /// A qualified form such as `private="x-user"` counts as the whole (RFC 9111, section 5.2.2.7). `?0` is false (RFC 9651).
    fn note(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is_set = argument != Some(b"?0");
        let seconds = argument.map(unquoted);
        match name.to_ascii_lowercase().as_slice() {
            b"max-age" => self.max_age.note(seconds),
            b"s-maxage" => self.s_maxage.note(seconds),
            b"stale-while-revalidate" => self.stale_while_revalidate.note(seconds),
            b"stale-if-error" => self.stale_if_error.note(seconds),
            b"no-store" => self.no_store |= is_set,
            b"no-cache" => self.no_cache |= is_set,
            b"private" => self.private |= is_set,
            b"must-revalidate" | b"proxy-revalidate" => self.must_revalidate |= is_set,
            _ => {}
        }
    }
}

/// The members of a list, `name` or `name=argument`, without empty ones; a comma within quotes parts nothing.
struct ListItems<'a>(&'a [u8]);

impl<'a> Iterator for ListItems<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let end = comma(self.0).unwrap_or(self.0.len());
            let (member, rest) = self.0.split_at(end);
            self.0 = rest.get(1..).unwrap_or_default();
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(match member.iter().position(|&byte| byte == b'=') {
                    Some(at) => (member[..at].trim_ascii(), Some(member[at + 1..].trim_ascii())),
                    None => (member, None),
                });
            }
        }
        None
    }
}

/// Where the first comma outside of quotes is.
fn comma(text: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.iter().position(|&byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    })
}

fn before_parameters(text: &[u8]) -> &[u8] {
    match text.first() {
        // A string: a semicolon may be within it.
        Some(b'"') => text,
        _ => text.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii(),
    }
}

fn is_sf_key(name: &[u8]) -> bool {
    name.first().is_some_and(|first| first.is_ascii_lowercase() || *first == b'*')
        && name
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(byte))
}

/// Whether it looks like an item: a number, a string, a token, bytes or a boolean.
fn is_sf_item(value: &[u8]) -> bool {
    match value {
        [] => false,
        [b'"', .., b'"'] => value.len() > 1,
        [b'?', rest @ ..] => matches!(rest, b"0" | b"1"),
        [b':', .., b':'] => value.len() > 1,
        [first, rest @ ..] if first.is_ascii_digit() || *first == b'-' => {
            rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        }
        [first, ..] => {
            (first.is_ascii_alphabetic() || *first == b'*')
                && value.iter().all(|byte| byte.is_ascii_graphic())
        }
    }
}

/// Recipients take a number in quotes as well (RFC 9111, section 5.2).
fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

/// A number of seconds: digits alone.
pub(super) fn number(text: &[u8]) -> Option<u32> {
    let are_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(LONGEST.into());
    are_digits.then(|| saturated(text.iter().fold(0, add)))
}

/// A number of seconds, cut to the longest.
pub(super) fn saturated(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(LONGEST).min(LONGEST)
}
