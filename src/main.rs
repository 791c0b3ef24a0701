//! Arguments, logs, run, exit code: nothing else is here.

use std::process::ExitCode;

use dproxy::{config, run, terminal};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    run::outlive_signals(std::env::args_os());
    let cli = match config::command_line(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refused) => return refused.report(),
    };
    let done = run::logs::start(&cli.log).and_then(|_log| run::run(&cli));
    done.unwrap_or_else(|error| {
        terminal::complain(format!("{error:#}"));
        ExitCode::FAILURE
    })
}
