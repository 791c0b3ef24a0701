//! Settings from three places: the command line beats the environment, which beats the file of `--config`.
//!
//! The flags are the only list of settings there is. A file is checked against them, and what it sets becomes the
//! default of its flag, so that clap does the rest. `main` calls [`command_line`], `dproxy check` [`check`].

mod check;
mod file;
mod settings;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

pub use check::check;
use settings::Setting;

use crate::args::Cli;

/// The exit code of wrong usage, as clap has it.
const USAGE: u8 = 2;
/// The subcommand that reports on a file instead of heeding it.
const CHECK: &str = "check";

/// One thing that is wrong in a file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The line, counted from 1; 0 is the whole file.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub text: String,
}

/// Why there are no settings to start with.
#[derive(Debug)]
pub enum Refused {
    /// Wrong usage, or a call for help, which is no failure.
    Usage(clap::Error),
    /// The file is wrong.
    File(PathBuf, Vec<Problem>),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::File(path, problems) => write_problems(f, path, problems),
        }
    }
}

impl Refused {
    /// Tells the user, and the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Usage(error) => {
                // Nobody may be reading it, which changes nothing.
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
            }
            Self::File(..) => {
                let _ = write!(std::io::stderr(), "{self}");
                ExitCode::from(USAGE)
            }
        }
    }
}

fn write_problems(out: &mut impl fmt::Write, path: &Path, problems: &[Problem]) -> fmt::Result {
    for Problem { line, text } in problems {
        match line {
            0 => writeln!(out, "{}: {text}", path.display())?,
            _ => writeln!(out, "{}:{line}: {text}", path.display())?,
        }
    }
    Ok(())
}

/// What the words of a command line mean, with the environment and the file that they name.
pub fn command_line(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Refused> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = Cli::command();
    // A file may hold what the command line lacks: this pass looks for the file's name and for nothing else.
    let first = command.clone().ignore_errors(true).try_get_matches_from(&words)?;
    let is_for_check = first.subcommand_name() == Some(CHECK);
    if let Some(path) = config_path(&first).filter(|_| !is_for_check) {
        let settings = load(&path, &command).map_err(|problems| Refused::File(path, problems))?;
        command = settings::apply(command, &settings);
    }
    let matches = command.clone().try_get_matches_from(words)?;
    Ok(Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?)
}

fn config_path(matches: &ArgMatches) -> Option<PathBuf> {
    let here = matches.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    let beneath = || matches.subcommand().and_then(|(_, matches)| config_path(matches));
    beneath().or(here)
}

/// The settings of a file, all of them known and valid.
fn load(path: &Path, command: &Command) -> Result<Vec<Setting>, Vec<Problem>> {
    let problem = |text| vec![Problem { line: 0, text }];
    let text = std::fs::read_to_string(path).map_err(|error| {
        problem(format!("cannot read the configuration: {error}; name another file with --config"))
    })?;
    settings::resolve(file::read(&text)?, command)
}
