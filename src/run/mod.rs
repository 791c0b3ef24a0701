//! The composition root: from the command line to nodes that serve, or to the command that it names.
//!
//! `nodes` and `cluster` build roles from their flags; `process` serves them until a signal.

mod certificates;
mod cluster;
mod descriptors;
mod listen;
pub mod logs;
#[cfg(feature = "tools")]
mod manual;
mod nodes;
#[cfg(feature = "otlp")]
mod otlp;
mod process;
mod shutdown;
mod signals;
mod sockets;
mod systemd;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use tracing::warn;

use self::descriptors::Descriptors;
use self::process::Process;
use self::sockets::Sockets;
use crate::args::{Cli, ClientArgs, Command};
use crate::memory::Memory;
#[cfg(feature = "tools")]
use crate::{bench, simulate, watch};
use crate::{client, config, cores, terminal};

/// Has a node outlive the signals that end no node, before its settings are read: that may take a while, and a manager may send
/// one at any time. The first word that is a subcommand tells whether there will be a node.
pub fn outlive_signals(words: impl Iterator<Item = OsString>) {
    let is_of_node = |word: OsString| match word.to_str()? {
        "origin" | "proxy" | "lb" | "cluster" => Some(true),
        "client" | "bench" | "simulate" | "check" | "completions" | "man" => Some(false),
        _ => None,
    };
    if words.skip(1).find_map(is_of_node) == Some(true) && Descriptors::raise().suffice(1, 1).is_ok() {
        // The start tries again, and tells what is wrong.
        let _ = signals::outlive();
    }
}

/// Does what the command line says, to its end.
pub fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Origin(args) => serve(cli, "origin", |process| process.origin(args).map(drop)),
        Command::Proxy(args) => serve(cli, "proxy", |process| process.proxy(args).map(drop)),
        Command::Lb(args) => serve(cli, "lb", |process| process.lb(args, None).map(drop)),
        Command::Cluster(args) => serve(cli, "cluster", |process| process.cluster(args)),
        Command::Client(args) => ask(args),
        Command::Check(args) => Ok(config::check(args, cli.config.as_deref())?),
        #[cfg(feature = "tools")]
        Command::Bench(args) => {
            config::strays().iter().for_each(terminal::complain);
            bench::run(&args.config().map_err(|why| anyhow!(why))?)
        }
        #[cfg(feature = "tools")]
        Command::Simulate(args) => {
            simulate::command::run(&args.plan(), terminal::print)?;
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "tools")]
        Command::Completions(args) => manual::completions(args),
        #[cfg(feature = "tools")]
        Command::Man(args) => manual::man(args),
    }
}

/// Serves the nodes that `build` makes, until a signal. Spans name their origin `role`.
#[cfg_attr(not(feature = "otlp"), allow(unused_variables, reason = "only spans name the role"))]
fn serve(cli: &Cli, role: &str, build: impl FnOnce(&mut Process) -> Result<()>) -> Result<ExitCode> {
    // A variable that sets nothing would be noticed late.
    config::strays().iter().for_each(|stray| warn!("{stray}"));
    let descriptors = Descriptors::raise();
    // tokio panics where it cannot open what it needs for signals.
    descriptors.suffice(1, 1)?;
    signals::outlive().context("signals cannot be handled")?;
    let memory = Memory::find(|path| std::fs::read_to_string(path).ok());
    let mut process = Process::within(memory, descriptors, Sockets::handed_over()?);
    process.has_settings = cli.config.is_some();
    build(&mut process)?;
    #[cfg(feature = "otlp")]
    if let Some(export) = otlp::start(cli.spans.otlp_endpoint.as_deref(), role)? {
        process.last.push(Box::new(|left| export.flush(left)));
    }
    process.live()
}

/// Asks a node, once or again and again.
fn ask(args: &ClientArgs) -> Result<ExitCode> {
    config::strays().iter().for_each(terminal::complain);
    let runtime = cores::runtime()?;
    #[cfg(feature = "tools")]
    if let Some(watched) = args.watched().map_err(|why| anyhow!(why))? {
        return runtime.block_on(watch::run(watched));
    }
    runtime.block_on(client::run(args.config().map_err(|why| anyhow!(why))?))
}
