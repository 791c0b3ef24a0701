//! Settings from three places: the command line beats the environment, which beats the file of `--config`.
//!
//! The flags are the only list of settings. A file is checked against them; each value in it becomes the default of its
//! flag, and clap does the rest. `main` calls [`command_line`], `dproxy check` calls [`check()`].

mod check;
mod file;
mod settings;
mod strays;
mod unset;
mod usage;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, FromArgMatches};

pub use check::check;
use settings::Setting;
pub use strays::strays;

use crate::args::{self, Cli};
use crate::terminal;

/// The exit code of wrong usage, as clap has it.
const USAGE: u8 = 2;
/// The largest file that is read.
const LARGEST: u64 = 1 << 20;
/// The subcommand that reports on a file instead of using it.
const CHECK: &str = "check";

/// An error in a file, and its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The line, counted from 1; 0 is the whole file.
    pub line: usize,
    /// The error, and what to write instead.
    pub text: String,
}

/// Why the program does not start.
#[derive(Debug)]
pub enum Refused {
    /// The help or the version was requested, or the command line was empty.
    Help(clap::Error),
    /// Wrong usage.
    Usage(String),
    /// The file is wrong.
    File(PathBuf, Vec<Problem>),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Help(error) => error.fmt(f),
            Self::Usage(line) => line.fmt(f),
            Self::File(path, problems) => write_problems(f, path, problems),
        }
    }
}

impl Refused {
    /// Prints the reason; returns the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Help(error) => {
                let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
                match terminal::printed(error.print()) {
                    Err(unwritten) if !error.use_stderr() => {
                        terminal::complain(unwritten);
                        ExitCode::FAILURE
                    }
                    // A closed standard error changes nothing.
                    _ => code,
                }
            }
            Self::Usage(line) => {
                terminal::complain(line);
                ExitCode::from(USAGE)
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

/// Parses a command line, together with the environment and the file that it names.
pub fn command_line(words: impl IntoIterator<Item = OsString>) -> Result<Cli, Refused> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = args::command();
    // The file may set flags that the command line lacks, so this first pass only looks for the name of the file.
    let first = unset::ignored(command.clone())
        .ignore_errors(true)
        .try_get_matches_from(&words)
        .map_err(Refused::Help)?;
    let role = first.subcommand_name();
    let is_for_check = role == Some(CHECK);
    if let Some(path) = config_path(&first).filter(|_| !is_for_check) {
        let settings = load(&path, &command).and_then(|settings| settings::unmixed(settings, role));
        let settings = settings.map_err(|problems| Refused::File(path, problems))?;
        command = settings::apply(command, &settings);
    }
    let refused = |error: clap::Error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Refused::Help(error),
        _ => Refused::Usage(usage::line(&error, role, &command)),
    };
    let matches = unset::ignored(command.clone()).try_get_matches_from(words).map_err(refused)?;
    match matches.subcommand().and_then(|(role, matches)| check::contradiction(role, matches)) {
        Some(advice) => Err(Refused::Usage(advice)),
        None => Cli::from_arg_matches(&matches).map_err(refused),
    }
}

fn config_path(matches: &ArgMatches) -> Option<PathBuf> {
    let here = matches.try_get_one::<PathBuf>("config").ok().flatten().cloned();
    let beneath = || matches.subcommand().and_then(|(_, matches)| config_path(matches));
    beneath().or(here)
}

/// The settings of a file, all of them known and valid.
fn load(path: &Path, command: &Command) -> Result<Vec<Setting>, Vec<Problem>> {
    let problem = |text| vec![Problem { line: 0, text }];
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text)).map_err(|error| {
        let why = if error.kind() == IoErrorKind::InvalidData {
            "it is not text in UTF-8"
        } else {
            &error.to_string()
        };
        problem(format!("cannot read the configuration: {why}; name another file with --config"))
    })?;
    if text.len() as u64 > LARGEST {
        return Err(problem("it is larger than 1 MiB, which no configuration is".to_owned()));
    }
    settings::resolve(file::read(text.strip_prefix('\u{feff}').unwrap_or(&text))?, command)
}
