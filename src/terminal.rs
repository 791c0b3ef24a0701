//! What a person, or a pipe, gets of the commands that end: results on standard output, complaints on standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write, stderr, stdout};

/// Whether colours suit a stream: never without a terminal, never with `NO_COLOR`.
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !no_colour() && !is_dumb()
}

/// Whether `NO_COLOR` is set, as <https://no-color.org> means it.
pub fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether a picture can be drawn on a stream, and drawn anew.
pub fn can_draw(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !is_dumb()
}

/// A terminal without a name cannot be trusted to move its cursor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Writes a result to standard output. False when nobody reads it any more, which is no failure: who read has what it
/// wanted.
pub fn print(text: impl AsRef<[u8]>) -> io::Result<bool> {
    printed(stdout().lock().write_all(text.as_ref()))
}

/// What became of something that was written to standard output: as [`print()`] tells it.
pub fn printed(written: io::Result<()>) -> io::Result<bool> {
    match written.and_then(|()| stdout().flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot write to standard output: {error}"))),
    }
}

/// Says on one line what is wrong and what to do. Nobody may be reading it, which changes nothing.
pub fn complain(what: impl Display) {
    let mut err = stderr().lock();
    let name = if has_colours(&err) { "\u{1b}[1m\u{1b}[31mdproxy:\u{1b}[0m" } else { "dproxy:" };
    let _ = writeln!(err, "{name} {what}");
}
