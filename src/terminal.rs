//! Standard output and standard error of the program: results go to the first, errors to the second.

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
    let _ = writeln!(err, "{name} {what}");
}
