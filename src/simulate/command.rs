//! `dproxy simulate`: runs traces through caches and prints what each would have missed.

use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Capacity, Outcome, Survey, Trace, TraceError, run as simulate, survey};
use crate::proxy::cache::CacheType;

/// Runs a log of keys through the cache of a proxy, to choose its type and size.
///
/// There is no clock in a log of keys: nothing expires in a simulation. What `ttl` is then is a cache that gives up first
/// what came first (FIFO).
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// File of one key a line, in the order of the requests; plain or compressed with zstd
    #[arg(long, required = true, value_name = "FILE")]
    pub trace: Vec<PathBuf>,

    /// Cache types to compare: lru, s3fifo, ttl (without a clock: first in, first out)
    #[arg(
        long,
        alias = "cache_type",
        value_name = "TYPE",
        value_delimiter = ',',
        default_value = "lru,s3fifo,ttl",
        hide_possible_values = true
    )]
    pub cache_type: Vec<CacheType>,

    /// Sizes to compare: entries such as 2000, or a part of the keys of the trace such as 1%
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "1%,5%,10%")]
    pub capacity: Vec<Capacity>,

    /// Shards to divide the cache into, instead of as many as a proxy would choose; 1 makes lru exact
    #[arg(long, value_name = "COUNT")]
    pub shards: Option<NonZeroUsize>,

    /// As a table, or as one JSON object a line for each run
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// In what form outcomes are printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub enum Output {
    /// A table.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// Runs each trace through each size and type, and prints each outcome as soon as there is one.
pub fn run(args: &SimulateArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut first = true;
    for path in &args.trace {
        let trace = Trace::new(path);
        let survey = count(&trace, args.output)?;
        for capacity in &args.capacity {
            for &cache_type in &args.cache_type {
                let outcome = run_one(&trace, survey, cache_type, *capacity, args)?;
                print(&outcome, std::mem::take(&mut first), args.output, out)?;
            }
        }
    }
    Ok(())
}

fn count(trace: &Trace, output: Output) -> Result<Survey, TraceError> {
    let bar = bar(output, None, format!("counting keys of {}", trace.path().display()));
    let survey = survey(trace.lines()?, |done| bar.set_position(done));
    bar.finish_and_clear();
    match survey? {
        Survey { requests: 0, .. } => Err(TraceError::Empty { path: trace.path().to_owned() }),
        survey => Ok(survey),
    }
}

fn run_one(
    trace: &Trace,
    survey: Survey,
    cache_type: CacheType,
    capacity: Capacity,
    args: &SimulateArgs,
) -> Result<Outcome, TraceError> {
    let bar = bar(args.output, Some(survey.requests), format!("{cache_type} of {capacity}"));
    let name = trace.path().display().to_string();
    let entries = capacity.of(survey.keys);
    let shards = args.shards.map(NonZeroUsize::get);
    let outcome = simulate(&name, trace.lines()?, cache_type, entries, shards, |done| bar.set_position(done));
    bar.finish_and_clear();
    outcome
}

fn print(outcome: &Outcome, first: bool, output: Output, out: &mut impl Write) -> anyhow::Result<()> {
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(outcome)?)?,
        Output::Text => {
            if first {
                let [a, b, c, d, e] = ["capacity", "shards", "requests", "misses", "miss ratio"];
                writeln!(out, "{:<10} {a:>10} {b:>6} {c:>12} {d:>12} {e:>10}  trace", "cache type")?;
            }
            let Outcome { trace, cache_type, capacity, shards, requests, misses, miss_ratio } = outcome;
            writeln!(
                out,
                "{cache_type:<10} {capacity:>10} {shards:>6} {requests:>12} {misses:>12} {miss_ratio:>10.4}  {trace}"
            )?;
        }
    }
    Ok(out.flush()?)
}

/// A bar for who watches: not into a pipe or a file, not beside JSON, not on a terminal that cannot move its cursor.
fn bar(output: Output, length: Option<u64>, what: String) -> ProgressBar {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if output == Output::Json || dumb || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // No colours in it, with NO_COLOR or without.
    let template = match length {
        Some(_) => "{msg:20} [{bar:40}] {human_pos}/{human_len}, {eta} left",
        None => "{spinner} {msg}: {human_pos}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = length
        .map_or_else(ProgressBar::new_spinner, ProgressBar::new)
        .with_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_message(what)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        simulate: SimulateArgs,
    }

    fn lines(arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let cli = Cli::try_parse_from([&["dproxy"], arguments].concat())?;
        let mut out = Vec::new();
        run(&cli.simulate, &mut out)?;
        Ok(String::from_utf8(out)?.lines().map(str::to_owned).collect())
    }

    /// A trace of 100 keys, asked for ten times over.
    fn trace(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dproxy-simulate-{name}-{}", std::process::id()));
        let text: String = (0..1000).map(|key| format!("article/{}\n", key % 100)).collect();
        std::fs::write(&path, text).expect("a temporary file");
        path
    }

    #[test]
    fn prints_each_run() {
        let path = trace("runs");
        let file = path.display().to_string();
        let json = lines(&[
            "--trace",
            &file,
            "--cache-type",
            "lru,ttl",
            "--capacity",
            "10%,100",
            "--output",
            "json",
        ]);
        let text = lines(&["--trace", &file, "--cache_type=s3fifo", "--capacity=100", "--trace", &file]);
        drop(std::fs::remove_file(&path));
        let run = |cache_type: &str, capacity, misses, ratio: &str| {
            format!(
                r#"{{"trace":"{file}","cache_type":"{cache_type}","capacity":{capacity},"shards":1,"requests":1000,"misses":{misses},"miss_ratio":{ratio}}}"#
            )
        };
        let expected = [
            run("lru", 10, 1000, "1.0"),
            run("ttl", 10, 1000, "1.0"),
            run("lru", 100, 100, "0.1"),
            run("ttl", 100, 100, "0.1"),
        ];
        assert_eq!(json.expect("four runs"), expected);
        let text = text.expect("two runs");
        assert_eq!(text.len(), 3);
        assert!(
            text[0].starts_with("cache type") && text[1] == text[2] && text[1].contains("0.1000"),
            "{text:?}"
        );
    }

    #[test]
    fn says_what_to_do() {
        let error = |arguments: &[&str]| lines(arguments).expect_err("wrong").to_string();
        assert!(error(&[]).contains("--trace <FILE>"));
        assert!(error(&["--trace", "/no/such"]).contains("cannot read the trace /no/such"));
        assert!(error(&["--trace", "a", "--capacity", "1,0"]).contains("write entries such as 2000"));
        assert!(error(&["--trace", "a", "--cache-type", "arc"]).contains("use ttl, lru or s3fifo"));
        let path = std::env::temp_dir().join(format!("dproxy-simulate-empty-{}", std::process::id()));
        std::fs::write(&path, "\n").expect("a temporary file");
        let empty = error(&["--trace", &path.display().to_string()]);
        drop(std::fs::remove_file(&path));
        assert!(empty.contains("holds no keys"), "{empty}");
    }
}
