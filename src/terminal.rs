//! Standard output and standard error of the program: results go to the first, errors to the second.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdout};

use clap::ValueEnum;

/// The form of results and logs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts: JSON, one object a line.
    Json,
}

/// Whether to write colours to a stream: only to a terminal, and never with `NO_COLOR`.
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !no_colour() && !is_dumb()
}

/// Whether `NO_COLOR` is set and not empty (<https://no-color.org>).
pub fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether a picture can be drawn on a stream, and redrawn.
pub fn can_draw(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_dumb()
}

/// A terminal without a name cannot be trusted to move its cursor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Writes a result to standard output. False when its reader has closed it, which is no error: `head` has all its lines.
pub fn print(text: impl AsRef<[u8]>) -> io::Result<bool> {
    printed(stdout().lock().write_all(text.as_ref()))
}

/// The result of a write to standard output, in the form of [`print()`].
pub fn printed(written: io::Result<()>) -> io::Result<bool> {
    match written.and_then(|()| stdout().flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
    }
}

/// Prints one line to standard error: the problem and its remedy. A standard error that is closed changes nothing.
pub fn complain(what: impl Display) {
    let mut err = stderr().lock();
    let name = if has_colours(&err) { "\u{1b}[1m\u{1b}[31mdproxy:\u{1b}[0m" } else { "dproxy:" };
    let what = what.to_string();
    let what = if err.is_terminal() { harmless(&what) } else { Cow::Borrowed(what.as_str()) };
    let _ = writeln!(err, "{name} {what}");
}

/// A text that steers no terminal: controls but line ends and tabs, and marks that turn the direction of writing (Unicode
/// UAX #9, 2), are written as `\\u009b`. Within JSON they mean the same.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let written = |letter: char| match steers(letter) {
        true => format!("\\u{:04x}", u32::from(letter)),
        false => letter.to_string(),
    };
    Cow::Owned(text.chars().map(written).collect())
}

fn steers(letter: char) -> bool {
    let turns = matches!(letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || letter.is_control() && !matches!(letter, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        assert_eq!(
            harmless("a\u{9b}31m\u{202e}b\u{1b}[2J\u{7f}\n\té"),
            "a\\u009b31m\\u202eb\\u001b[2J\\u007f\n\té"
        );
        assert!(matches!(harmless("{\"a\": \"é\"}\n"), Cow::Borrowed(_)));
    }
}
