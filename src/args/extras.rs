//! The flags of the subcommands that serve nothing: `check`, `completions`, `man`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use clap_complete::Shell;

/// Flags of `dproxy check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The tables whose settings to show [default: those in the file, or all].
    #[arg(value_name = "ROLE", value_parser = ["origin", "proxy", "lb", "client", "bench", "cluster", "log"])]
    pub roles: Vec<String>,
}

/// Flags of `dproxy completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell to write them for.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Flags of `dproxy man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Write a page for dproxy and one per subcommand into this directory, rather than one page to standard output.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
}
