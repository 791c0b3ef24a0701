//! The flags of the subcommands that serve nothing: `check`, `completions`, `man`.

use clap::Args;
use clap::builder::PossibleValuesParser;

/// The tables of a configuration file.
const TABLES: &[&str] = &[
    "origin",
    "proxy",
    "lb",
    "client",
    #[cfg(feature = "tools")]
    "bench",
    "cluster",
    "log",
];

/// Flags of `dproxy check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The tables whose settings to show [default: those in the file, or all].
    #[arg(value_name = "ROLE", value_parser = PossibleValuesParser::new(TABLES.iter().copied()))]
    pub roles: Vec<String>,
}

/// Flags of `dproxy completions`.
#[cfg(feature = "tools")]
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell to write them for.
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// Flags of `dproxy man`.
#[cfg(feature = "tools")]
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Write a page for dproxy and one per subcommand into this directory, rather than one page to standard output.
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub out: Option<std::path::PathBuf>,
}
