//! Variables that look like settings and are none: misspelt names, mostly.

use clap::Command;

use super::settings::nearest;
use super::unset::{is_of_kubernetes, is_unset};
use crate::args;

/// The prefix of the variables of all settings.
const PREFIX: &str = "DPROXY_";

/// A warning for each `DPROXY_` variable of the environment that sets nothing, with the name that is probably meant.
pub fn strays() -> Vec<String> {
    let set = std::env::vars_os().filter(|(_, value)| !is_unset(value));
    let names = set.map(|(name, _)| name.to_string_lossy().into_owned());
    let of_kubernetes = of_kubernetes();
    // The one warning is of the other variables of the service, too.
    let names = names.filter(|name| of_kubernetes.is_none() || !is_of_a_service(name));
    let strays = warnings(names, &args::command());
    of_kubernetes.into_iter().chain(strays).collect()
}

/// Whether Kubernetes gives a variable this name: `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_LINE`,
/// `…_PORT_8000_TCP_ADDR`.
fn is_of_a_service(name: &str) -> bool {
    let is_of_a_port = |(_, rest): (&str, &str)| rest.starts_with(|letter: char| letter.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT_").is_some_and(is_of_a_port)
}

/// One warning for all variables that Kubernetes made of a service and that a setting of ours would be read from.
fn of_kubernetes() -> Option<String> {
    let (name, value) =
        std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value)).find(
            |(name, value)| name.starts_with(PREFIX) && name.ends_with("_PORT") && is_of_kubernetes(value),
        )?;
    let value = value.to_string_lossy();
    Some(format!(
        "the variable {name} is passed over: {value} is what Kubernetes sets for a service; enableServiceLinks: false keeps it out"
    ))
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
