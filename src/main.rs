//! Arguments, logs, run, exit code: nothing else is here.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use dproxy::args::Cli;
use dproxy::{logs, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = logs::start(&cli.log).and_then(|_log| run::run(cli));
    done.unwrap_or_else(|error| {
        // Nobody may be reading it, which changes nothing.
        let _ = writeln!(std::io::stderr(), "dproxy: {error:#}");
        ExitCode::FAILURE
    })
}
