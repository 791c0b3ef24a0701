//! Wrong use of the command line, reported on one line: the error and its remedy.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

/// The line for an error of clap. `role` is the subcommand, if one was found.
pub(super) fn line(error: &clap::Error, role: Option<&str>, command: &Command) -> String {
    let asked = role.map_or("dproxy".to_owned(), |role| format!("dproxy {role}"));
    let what = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => {
            let missing: Vec<String> = missing.iter().map(|one| alternatives(one)).collect();
            format!("{asked} needs {}", missing.join(" and "))
        }
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => {
            match owners(flag, role, command) {
                owners if owners.is_empty() => message(error),
                // Typed right for another role: a flag of this one that is spelled alike was not meant.
                owners => message(error).split("; ").next().unwrap_or_default().to_owned() + &owners,
            }
        }
        (ErrorKind::InvalidValue | ErrorKind::ValueValidation, Some(ContextValue::String(flag))) => {
            message(error) + &holder(error, flag, role, command)
        }
        _ => message(error),
    };
    format!("{what}; see {asked} --help")
}

/// `<--get <PATH>...|--metrics>` is one of two.
fn alternatives(missing: &str) -> String {
    match missing.strip_prefix('<').and_then(|missing| missing.strip_suffix('>')) {
        Some(group) if group.starts_with('-') => format!("one of {}", group.replace('|', ", ")),
        _ => missing.to_owned(),
    }
}

/// The message of clap without its usage, which is pages long.
fn message(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let kept = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let kept = kept.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    let mut line = String::new();
    for part in kept {
        match part.strip_prefix("tip: ") {
            Some(tip) => line.push_str(&format!("; {tip}")),
            None if line.is_empty() => line.push_str(part.trim_start_matches("error: ")),
            None => line.push_str(&format!(" {part}")),
        }
    }
    line
}

/// The roles that have this flag, if others than `role` do.
fn owners(flag: &str, role: Option<&str>, command: &Command) -> String {
    let name = flag.trim_start_matches('-');
    let is_it = |arg: &Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long().into_iter().chain(aliases).any(|long| long == name)
    };
    let roles =
        command.get_subcommands().filter(|other| other.get_arguments().any(is_it)).map(Command::get_name);
    let roles: Vec<&str> = roles.filter(|other| Some(*other) != role).collect();
    match roles.is_empty() {
        true => String::new(),
        false => format!("; it is a flag of dproxy {}", roles.join(", ")),
    }
}

/// The variable that holds the wrong value, if one does: then nobody typed the flag of the error.
fn holder(error: &clap::Error, flag: &str, role: Option<&str>, command: &Command) -> String {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else {
        return String::new();
    };
    let of_role = role.and_then(|role| command.find_subcommand(role));
    let mut args = of_role.into_iter().chain([command]).flat_map(Command::get_arguments);
    let Some(arg) = args.find(|arg| is_named(flag, arg)) else { return String::new() };
    let name = arg.get_env().and_then(|name| name.to_str()).unwrap_or_default();
    let Ok(held) = std::env::var(name) else { return String::new() };
    match held.split(|letter| Some(letter) == arg.get_value_delimiter()).any(|part| part == value) {
        true => format!("; the variable {name} holds it"),
        false => String::new(),
    }
}

/// Whether clap's `--port <PORT>` is this flag.
fn is_named(flag: &str, arg: &Arg) -> bool {
    let long = flag.split_whitespace().next().and_then(|word| word.strip_prefix("--"));
    long.is_some() && arg.get_long() == long
}

#[cfg(test)]
mod tests {
    use crate::args;

    fn refusal(words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        let command = args::command();
        let error = command.clone().try_get_matches_from(&words).expect_err("wrong");
        super::line(&error, words.get(1).copied(), &command)
    }

    #[test]
    fn one_line_says_what_is_wrong_and_what_to_do() {
        for (words, line) in [
            (
                "dproxy origin --ttl 3s",
                "unexpected argument '--ttl' found; it is a flag of dproxy proxy, cluster, simulate; see dproxy origin --help",
            ),
            (
                "dproxy proxy --cache-typ lru",
                "unexpected argument '--cache-typ' found; a similar argument exists: '--cache-type'; see dproxy proxy --help",
            ),
            (
                "dproxy proxy --cache-type arc",
                "invalid value 'arc' for '--cache-type <TYPE>' [possible values: ttl, lru, s3fifo]; see dproxy proxy --help",
            ),
            (
                "dproxy proxy --port -1",
                "invalid value '-1' for '--port <PORT>': write a port from 0 to 65535; see dproxy proxy --help",
            ),
            ("dproxy simulate", "dproxy simulate needs --trace <FILE>...; see dproxy simulate --help"),
            (
                "dproxy client --get a/1 --metrics",
                "the argument '--get <PATH>...' cannot be used with '--metrics'; see dproxy client --help",
            ),
        ] {
            assert_eq!(refusal(words), line);
        }
        let needs = refusal("dproxy client");
        assert!(
            needs.starts_with("dproxy client needs one of --get <PATH>..., --keys <FILE>, --metrics"),
            "{needs}"
        );
    }
}
