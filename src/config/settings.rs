//! The entries of a file, checked against the flags: names and values.

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use std::error::Error;

use super::Problem;
use super::file::{Entry, Tables, Value};

/// The table of the flags that every subcommand has.
pub(super) const COMMON: &str = "log";
/// The flag that names the file; no setting of the file.
const CONFIG: &str = "config";
/// Names less alike than this are not suggested as corrections.
const ALIKE: f64 = 0.75;

/// A flag that a file sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    pub(super) table: String,
    /// The flag, as clap knows it.
    pub(super) id: String,
    pub(super) line: usize,
    pub(super) values: Vec<String>,
}

/// The tables that a file may have: one per subcommand that has settings, and the common one.
pub(super) fn tables(command: &Command) -> Vec<&str> {
    let roles = command.get_subcommands().filter(|role| settings_of(role).next().is_some());
    roles.map(Command::get_name).chain([COMMON]).collect()
}

/// The flags that are settings: those that have a variable. The others say what to do once.
pub(super) fn settings_of(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_env().is_some() && arg.get_id() != CONFIG)
}

/// The command whose flags a table sets.
pub(super) fn owner<'a>(command: &'a Command, table: &str) -> Option<&'a Command> {
    match table {
        COMMON => Some(command),
        role => command.find_subcommand(role).filter(|role| settings_of(role).next().is_some()),
    }
}

/// Finds the flag of each entry and checks its value; collects all errors.
pub(super) fn resolve(file: Tables, command: &Command) -> Result<Vec<Setting>, Vec<Problem>> {
    let mut problems = Vec::new();
    let tables = tables(command);
    for table in &file.tables {
        if !tables.contains(&table.name.as_str()) {
            let text = unknown(&format!("no table [{}]", table.name), &table.name, &tables);
            problems.push(Problem { line: table.line, text });
        }
    }
    let mut settings: Vec<Setting> = Vec::new();
    for entry in file.entries {
        let Some(owner) = owner(command, &entry.table) else { continue };
        match setting(&entry, owner) {
            Ok(setting) => {
                let is_same = |other: &&Setting| other.table == setting.table && other.id == setting.id;
                if let Some(earlier) = settings.iter().find(is_same) {
                    let text =
                        format!("[{}] {} is set on line {} already", entry.table, entry.name, earlier.line);
                    problems.push(Problem { line: entry.line, text });
                }
                settings.push(setting);
            }
            Err(text) => problems.push(Problem { line: entry.line, text }),
        }
    }
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// The settings, unless those of single roles would be ignored in silence: a cluster is of all roles, and follows its own table.
pub(super) fn unmixed(settings: Vec<Setting>, role: Option<&str>) -> Result<Vec<Setting>, Vec<Problem>> {
    let is_ignored = |setting: &&Setting| {
        role == Some("cluster") && ["origin", "proxy", "lb"].contains(&setting.table.as_str())
    };
    let problem = |Setting { table, id, line, .. }: &Setting| {
        let name = id.replace('_', "-");
        let text = format!("[{table}] {name} is not for a cluster, which follows [cluster] and [{COMMON}]");
        Problem { line: *line, text }
    };
    let problems: Vec<Problem> = settings.iter().filter(is_ignored).map(problem).collect();
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

fn setting(entry: &Entry, owner: &Command) -> Result<Setting, String> {
    let Entry { table, name, line, value } = entry;
    let Some(arg) = settings_of(owner).find(|arg| is_named(arg, name)) else {
        let names: Vec<&str> = settings_of(owner).filter_map(Arg::get_long).collect();
        return Err(unknown(&format!("[{table}] has no setting {name:?}"), &name.replace('_', "-"), &names));
    };
    let why = |why: String| format!("[{table}] {name}: {why}");
    let is_switch = !arg.get_action().takes_values();
    let takes_many = matches!(arg.get_action(), ArgAction::Append)
        || arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let values = match value {
        Value::Switch(switch) => vec![switch.to_string()],
        _ if is_switch => return Err(why("write true or false".to_owned())),
        Value::One(one) => vec![one.clone()],
        Value::Many(many) if takes_many && !many.is_empty() => many.clone(),
        Value::Many(_) if takes_many => return Err(why("the list is empty".to_owned())),
        Value::Many(_) => return Err(why("it takes one value, not a list".to_owned())),
    };
    if !is_switch {
        check_values(owner, arg, &values).map_err(why)?;
    }
    Ok(Setting { table: table.clone(), id: arg.get_id().to_string(), line: *line, values })
}

/// Whether a name of a file means this flag: its own name or an older spelling, with - or _.
fn is_named(arg: &Arg, name: &str) -> bool {
    let name = name.replace('_', "-");
    let aliases = arg.get_all_aliases().unwrap_or_default();
    arg.get_long().into_iter().chain(aliases).any(|own| own.replace('_', "-") == name)
}

/// Checks values with clap, as if they stood on a command line. The error is the reason.
fn check_values(owner: &Command, arg: &Arg, values: &[String]) -> Result<(), String> {
    let Some(long) = arg.get_long() else { return Ok(()) };
    let words = values.iter().map(|value| format!("--{long}={value}"));
    let Err(error) = alone(owner).no_binary_name(true).try_get_matches_from(words) else { return Ok(()) };
    // One value of a list may be the wrong one.
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.clone(),
        _ => values.join(","),
    };
    match (error.get(ContextKind::ValidValue), error.source()) {
        (Some(ContextValue::Strings(valid)), _) => {
            let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
            Err(unknown(&format!("{value:?} is not a value of it"), &value, &valid))
        }
        (_, Some(source)) => Err(format!("{value:?}: {source}")),
        // Other errors are about this made-up command line and not about the value.
        _ => Ok(()),
    }
}

/// A command that requires no flag and reads no variable.
pub(super) fn alone(command: &Command) -> Command {
    relaxed(command).mut_args(|arg| arg.env(Resettable::Reset))
}

/// A command that requires no flag.
pub(super) fn relaxed(command: &Command) -> Command {
    let groups: Vec<String> = command.get_groups().map(|group| group.get_id().to_string()).collect();
    let command = command
        .clone()
        .subcommand_required(false)
        .arg_required_else_help(false)
        .mut_args(|arg| arg.required(false));
    groups.into_iter().fold(command, |command, id| command.mut_group(id, |group| group.required(false)))
}

/// Makes the values of a file the defaults of their flags.
pub(super) fn apply(command: Command, settings: &[Setting]) -> Command {
    settings.iter().fold(command, |command, setting| {
        let values = setting.values.clone();
        let set = |arg: Arg| arg.default_values(values).required(false);
        match setting.table.as_str() {
            COMMON => command.mut_arg(&setting.id, set),
            role => command.mut_subcommand(role, |role| role.mut_arg(&setting.id, set)),
        }
    })
}

/// An error about an unknown name: with the known name that is most alike, or with all of them.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("{what}; did you mean {near}?"),
        None => format!("{what}; there are: {}", known.join(", ")),
    }
}

/// The known name that is most like this one.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|known| (strsim::jaro_winkler(name, known), *known));
    near.filter(|(alike, _)| *alike > ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
