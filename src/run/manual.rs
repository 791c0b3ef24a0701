//! Completions and manual pages, made from the definition of the flags.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Command;

use crate::args::{CompletionsArgs, ManArgs, command};
use crate::terminal::print;

/// Writes completions to standard output.
pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "dproxy", &mut text);
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual: one page to standard output, or all of them into a directory.
pub(super) fn man(args: &ManArgs) -> Result<ExitCode> {
    let mut command = command().disable_help_subcommand(true);
    command.build();
    match &args.out {
        None => {
            print(&page(&command)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make the directory {directory:?}"))?;
            write_page(directory, "dproxy.1", &command)?;
            for role in command.get_subcommands() {
                let name = format!("dproxy-{}", role.get_name());
                write_page(directory, &format!("{name}.1"), &role.clone().display_name(name))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn write_page(directory: &Path, name: &str, command: &Command) -> Result<()> {
    let path = directory.join(name);
    std::fs::write(&path, page(command)?).with_context(|| format!("cannot write {path:?}"))
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}
