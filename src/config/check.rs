//! `dproxy check`: the errors of a file, and the effective settings, each with its source.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::settings::{COMMON, Setting, apply, owner, relaxed, settings_of, tables};
use super::strays::strays;
use super::unset::ignored;
use super::{Refused, USAGE, load};
use crate::args::{self, Amount, CheckArgs, Misfit, misfits};
use crate::memory::Memory;
use crate::proxy::cache::{Bounds, CacheType};
use crate::terminal::{self, print};

/// A setting whose values are headers: they may hold a secret, and only their names are shown.
const SECRET: &str = "origin_header";
/// The table of all nodes of one process.
const CLUSTER: &str = "cluster";
const NODES: [&str; 3] = ["origin", "proxy", "lb"];
/// A setting whose values have commas of their own.
const RULES: &str = "prefix";
/// Values that are longer push what follows to the right.
const WIDEST: usize = 40;

/// Checks a file and prints the effective settings. Exit code 0, or 2 on an error.
pub fn check(args: &CheckArgs, config: Option<&std::path::Path>) -> std::io::Result<ExitCode> {
    let command = args::command();
    let settings = match config {
        None => Vec::new(),
        Some(path) => match load(path, &command) {
            Ok(settings) => settings,
            Err(problems) => return Ok(Refused::File(path.to_owned(), problems).report()),
        },
    };
    let file = config.map(|path| path.display().to_string()).unwrap_or_default();
    let known = tables(&command);
    let mut shown: Vec<&str> = match args.roles.is_empty() {
        false => args.roles.iter().map(String::as_str).collect(),
        true => known
            .iter()
            .copied()
            .filter(|table| settings.iter().any(|setting| setting.table == *table))
            .collect(),
    };
    if shown.is_empty() {
        shown = known.clone();
    }
    if !shown.contains(&COMMON) {
        shown.push(COMMON);
    }
    let memory = Memory::find(|path| std::fs::read_to_string(path).ok());
    let applied = apply(command.clone(), &settings);
    let (mut report, mut complaints) = (String::new(), Vec::new());
    let mut read: Vec<(&str, ArgMatches)> = Vec::new();
    for table in shown {
        let (Some(listed), Some(owner)) = (owner(&command, table), owner(&applied, table)) else { continue };
        let places = Places { table, settings: &settings, file: &file, memory };
        match places.read(owner) {
            Ok(matches) => {
                report.push_str(&places.effective(listed, &matches));
                complaints.extend(args::bad_files(&matches).iter().map(|why| format!("[{table}] {why}")));
                read.push((table, matches));
            }
            Err(error) => complaints.push(error),
        }
    }
    let misfits = misfits(|role, id| {
        read.iter().filter(|(table, _)| is_of(table, role)).find_map(|(_, matches)| amount(matches, id))
    });
    let (refused, advice): (Vec<Misfit>, Vec<Misfit>) =
        misfits.into_iter().partition(|misfit| misfit.is_refused);
    complaints.extend(refused.into_iter().map(|misfit| misfit.advice));
    let advice: Vec<String> = advice.into_iter().map(|misfit| misfit.advice).collect();
    strays().iter().chain(&advice).chain(&complaints).for_each(terminal::complain);
    print(report)?;
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) })
}

/// Why no node starts with these flags of a role: two contradict each other.
pub(super) fn contradiction(role: &str, matches: &ArgMatches) -> Option<String> {
    let misfits = misfits(|of, id| if is_of(role, of) { amount(matches, id) } else { None });
    misfits.into_iter().find(|misfit| misfit.is_refused).map(|misfit| misfit.advice)
}

/// Whether a table has settings of a role: that of a cluster has those of all.
fn is_of(table: &str, role: &str) -> bool {
    table == role || table == CLUSTER && NODES.contains(&role)
}

/// One table of a file, and its settings.
struct Places<'a> {
    table: &'a str,
    settings: &'a [Setting],
    file: &'a str,
    memory: Memory,
}

impl Places<'_> {
    /// The settings of the table as `owner` reads them.
    fn read(&self, owner: &Command) -> Result<ArgMatches, String> {
        let table = self.table;
        ignored(relaxed(owner)).try_get_matches_from([table]).map_err(|error| {
            let text = error.to_string();
            format!("[{table}] {}", text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        })
    }

    /// The effective values, a line each, in the order of `listed`.
    fn effective(&self, listed: &Command, matches: &ArgMatches) -> String {
        let table = self.table;
        let rows: Vec<(&str, String, String)> = settings_of(listed)
            .flat_map(|arg| {
                let name = arg.get_long().unwrap_or_default();
                let by_memory = self.by_memory(matches, arg);
                if let Some((value, source)) = by_memory.or_else(|| by_others(matches, arg)) {
                    return vec![(name, value, source)];
                }
                let source = self.source(matches, arg);
                values(matches, arg).into_iter().map(|value| (name, value, source.clone())).collect()
            })
            .collect();
        let width = |of: fn(&(&str, String, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
        let (names, values) = (width(|row| row.0.len()), width(|row| row.1.len()).min(WIDEST));
        let mut text = format!("[{table}]\n");
        for (name, value, source) in &rows {
            let _ = writeln!(text, "  {name:names$}  {value:values$}  {source}");
        }
        text.push('\n');
        text
    }

    /// A default that depends on the memory there is, and its source.
    fn by_memory(&self, matches: &ArgMatches, arg: &Arg) -> Option<(String, String)> {
        let id = arg.get_id().as_str();
        if matches.value_source(id).is_some() {
            return None;
        }
        let bytes = match id {
            "max_unread" => self.memory.unread(),
            "max_bytes" => {
                let proxies = matches.try_get_one::<usize>("proxies").ok().flatten();
                self.memory.cache(proxies.copied().unwrap_or(1))
            }
            _ => return None,
        };
        Some((args::size(bytes), format!("default, of {}", self.memory)))
    }

    fn source(&self, matches: &ArgMatches, arg: &Arg) -> String {
        let set = |setting: &&Setting| setting.table == self.table && arg.get_id() == &setting.id;
        match (matches.value_source(arg.get_id().as_str()), self.settings.iter().find(set)) {
            (Some(ValueSource::EnvVariable), _) => {
                arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            (Some(_), Some(set)) => format!("{}:{}", self.file, set.line),
            (_, None) | (None, _) => "default".to_owned(),
        }
    }
}

/// A default that depends on other settings, and its source.
fn by_others(matches: &ArgMatches, arg: &Arg) -> Option<(String, String)> {
    let id = arg.get_id().as_str();
    if matches.value_source(id).is_some() {
        return None;
    }
    let cache_type = matches.try_get_one::<CacheType>("cache_type").ok().flatten()?;
    let by_type = format!("default of cache-type {cache_type}");
    let is_bound_by_bytes = matches.value_source("max_bytes").is_some();
    Some(match id {
        "ttl" if *cache_type == CacheType::Ttl => (args::usual_ttl(), by_type),
        "ttl" => ("for ever".to_owned(), by_type),
        "capacity" if is_bound_by_bytes => ("no bound".to_owned(), "default beside max-bytes".to_owned()),
        "capacity" => {
            let entries = Bounds::default().entries.to_string();
            (entries, "default; the first of it and max-bytes counts".to_owned())
        }
        _ => return None,
    })
}

/// The value of a setting that may have to agree with another.
fn amount(matches: &ArgMatches, id: &str) -> Option<Amount> {
    let time = || Some(Amount::Time(*matches.try_get_one::<Duration>(id).ok()??));
    let size = || Some(Amount::Size(*matches.try_get_one::<usize>(id).ok()??));
    time().or_else(size)
}

/// What stands behind a setting: its one row, or a row for each rule.
fn values(matches: &ArgMatches, arg: &Arg) -> Vec<String> {
    let raw = matches.get_raw(arg.get_id().as_str());
    let values = raw.into_iter().flatten().map(|value| value.to_string_lossy());
    let values: Vec<String> = match arg.get_id() == SECRET {
        true => values.filter_map(|value| Some(format!("{}: …", value.split_once(':')?.0))).collect(),
        false => values.map(Into::into).collect(),
    };
    match arg.get_id() == RULES {
        _ if values.is_empty() => vec![default_in_words(arg)],
        true => values,
        false => vec![values.join(",")],
    }
}

/// The default in words, `[default: …]` of the help: one that depends on other settings or on the machine has no other form.
fn default_in_words(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let words = help.split_once("[default: ").and_then(|(_, words)| words.split_once(']'));
    words.map_or("-", |(words, _)| words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_default_or_words_for_it() {
        let command = args::command();
        for table in tables(&command) {
            for arg in settings_of(owner(&command, table).unwrap()) {
                let has_default = !arg.get_default_values().is_empty()
                    || !arg.get_action().takes_values()
                    || default_in_words(arg) != "-";
                assert!(has_default, "[{table}] {} has no [default: …] in its help", arg.get_id());
            }
        }
    }

    #[test]
    fn the_roles_that_can_be_named_are_the_tables() {
        let command = args::command();
        let named = command.find_subcommand("check").and_then(|check| check.get_positionals().next());
        let named = named.unwrap().get_possible_values();
        assert_eq!(named.iter().map(|role| role.get_name()).collect::<Vec<_>>(), tables(&command));
    }
}
