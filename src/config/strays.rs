//! Variables that look like settings and are none: misspelt names, mostly.

use clap::Command;

use super::settings::nearest;
use crate::args;

/// The prefix of the variables of all settings.
const PREFIX: &str = "DPROXY_";

/// A warning for each `DPROXY_` variable of the environment that sets nothing, with the name that is probably meant.
pub fn strays() -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    warnings(names, &args::command())
}

fn warnings(names: impl Iterator<Item = String>, command: &Command) -> Vec<String> {
    let commands = std::iter::once(command).chain(command.get_subcommands());
    let known = commands.flat_map(Command::get_arguments).filter_map(|arg| arg.get_env()?.to_str());
    let known: Vec<&str> = known.filter_map(|name| name.strip_prefix(PREFIX)).collect();
    let warning = |name: String| {
        let own = name.strip_prefix(PREFIX).filter(|own| !known.contains(own))?;
        Some(match nearest(own, &known) {
            Some(near) => format!("the variable {name} sets nothing; did you mean {PREFIX}{near}?"),
            None => format!("the variable {name} sets nothing"),
        })
    };
    names.filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_variables_that_set_nothing_are_warned_of() {
        let names =
            ["DPROXY_TTL", "DPROXY_CONFIG", "HOME", "DPROXY_CACHETYPE", "DPROXY_ZZZ"].map(str::to_owned);
        let warned = super::warnings(names.into_iter(), &crate::args::command());
        assert_eq!(
            warned,
            [
                "the variable DPROXY_CACHETYPE sets nothing; did you mean DPROXY_CACHE_TYPE?",
                "the variable DPROXY_ZZZ sets nothing"
            ]
        );
    }

    #[test]
    fn what_cargo_sets_for_the_program_is_no_stray() {
        // `cargo run` and `cargo test` hand on to the program what build.rs gives the compiler.
        let built = |value: &str| crate::args::VERSION.ends_with(&format!(" ({value})"));
        let names: Vec<String> =
            std::env::vars().filter(|(_, value)| built(value)).map(|(name, _)| name).collect();
        assert_eq!(super::warnings(names.into_iter(), &crate::args::command()), [""; 0]);
    }
}
