//! Variables that are there and set nothing: empty ones, and those that Kubernetes makes of a service named `dproxy`, whose
//! `DPROXY_PORT` is an address such as `tcp://10.0.0.7:8000`.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Arg, Command};

/// Has a command ignore variables that set nothing.
pub(super) fn ignored(command: Command) -> Command {
    ignored_by(command, &|name| std::env::var_os(name))
}

fn ignored_by(command: Command, value_of: &impl Fn(&OsStr) -> Option<OsString>) -> Command {
    let heed = |arg: Arg| {
        let sets_nothing = arg.get_env().and_then(value_of).is_some_and(|value| is_unset(&value));
        if sets_nothing { arg.env(Resettable::Reset) } else { arg }
    };
    command.mut_args(heed).mut_subcommands(|role| role.mut_args(heed))
}

/// Whether a variable with this value counts as unset.
pub(super) fn is_unset(value: &OsStr) -> bool {
    value.is_empty() || is_of_kubernetes(value)
}

/// Whether Kubernetes made it of a service.
pub(super) fn is_of_kubernetes(value: &OsStr) -> bool {
    let text = value.to_string_lossy();
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_or_of_kubernetes_is_not_read() {
        let value_of = |name: &OsStr| match name.to_str()? {
            "DPROXY_TTL" => Some(OsString::new()),
            "DPROXY_PORT" => Some("tcp://10.0.0.7:8000".into()),
            "DPROXY_CAPACITY" => Some("5".into()),
            _ => None,
        };
        let command = ignored_by(crate::args::command(), &value_of);
        let proxy = command.find_subcommand("proxy").unwrap();
        let reads = |id: &str| {
            let arg = proxy.get_arguments().find(|arg| arg.get_id() == id).unwrap();
            arg.get_env().is_some()
        };
        assert!(!reads("ttl") && !reads("port") && reads("capacity") && reads("host"));
    }
}
