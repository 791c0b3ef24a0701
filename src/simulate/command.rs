//! `dproxy simulate`: replays traces against caches and prints the misses of each.

use std::fmt::Write;
use std::io::{self, stderr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::{RangedU64ValueParser, ValueHint};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Capacity, Replay, Survey, TraceError, TraceKeys, run as simulate, survey};
use crate::proxy::cache::CacheType;
use crate::terminal::{Format, can_draw};

/// Runs a log of keys through the cache of a proxy, to choose its type and size.
///
/// A log of keys has no clock, so nothing expires in a simulation. There, `ttl` is a cache that evicts the oldest entry
/// (FIFO).
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// Files of one key a line, in the order of the requests; plain or compressed with zstd.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trace: Vec<PathBuf>,

    /// Cache types to compare; ttl without a clock is first in, first out.
    #[arg(
        long,
        alias = "cache_type",
        value_name = "TYPE",
        value_delimiter = ',',
        default_value = "lru,s3fifo,ttl"
    )]
    pub cache_type: Vec<CacheType>,

    /// Sizes to compare: entries such as 2000, or a part of the keys of the trace such as 1%.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "1%,5%,10%")]
    pub capacity: Vec<Capacity>,

    /// Shards to divide the lru cache into; 1 makes it exact [default: as many as a proxy would choose].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000), value_name = "N")]
    pub shards: Option<usize>,

    /// The format of the results.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub output: Format,
}

/// Replays each trace for each size and type, and prints each result as soon as it is known. Ends early once `print` returns
/// false: its reader has closed.
pub fn run(args: &SimulateArgs, mut print: impl FnMut(String) -> io::Result<bool>) -> anyhow::Result<()> {
    let mut head = args.output == Format::Text;
    for path in &args.trace {
        let survey = count(path, args.output)?;
        for capacity in &args.capacity {
            for &cache_type in &args.cache_type {
                let replay = run_one(path, survey, cache_type, *capacity, args)?;
                if !print(written(&replay, std::mem::take(&mut head), args.output)?)? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn count(trace: &Path, output: Format) -> Result<Survey, TraceError> {
    let bar = bar(output, None, format!("counting keys of {}", trace.display()));
    let survey = survey(TraceKeys::open(trace)?, |done| bar.set_position(done));
    bar.finish_and_clear();
    match survey? {
        Survey { requests: 0, .. } => Err(TraceError::Empty { path: trace.to_owned() }),
        survey => Ok(survey),
    }
}

fn run_one(
    trace: &Path,
    survey: Survey,
    cache_type: CacheType,
    capacity: Capacity,
    args: &SimulateArgs,
) -> Result<Replay, TraceError> {
    let bar = bar(args.output, Some(survey.requests), format!("{cache_type} of {capacity}"));
    let name = trace.display().to_string();
    let entries = capacity.entries(survey.keys);
    let replay = simulate(&name, TraceKeys::open(trace)?, cache_type, entries, args.shards, |done| {
        bar.set_position(done);
    });
    bar.finish_and_clear();
    replay
}

/// The line of a result, after the head of the table if `head`.
fn written(replay: &Replay, head: bool, output: Format) -> anyhow::Result<String> {
    if output == Format::Json {
        return Ok(serde_json::to_string(replay)? + "\n");
    }
    let mut text = String::new();
    if head {
        let [a, b, c, d, e] = ["capacity", "shards", "requests", "misses", "miss ratio"];
        writeln!(text, "{:<10} {a:>10} {b:>6} {c:>12} {d:>12} {e:>10}  trace", "cache type")?;
    }
    let Replay { trace, cache_type, capacity, shards, requests, misses, miss_ratio } = replay;
    writeln!(
        text,
        "{cache_type:<10} {capacity:>10} {shards:>6} {requests:>12} {misses:>12} {miss_ratio:>10.4}  {trace}"
    )?;
    Ok(text)
}

/// A progress bar on standard error; hidden beside JSON, in a pipe or file, and on a terminal that cannot move its cursor.
fn bar(output: Format, length: Option<u64>, what: String) -> ProgressBar {
    if output == Format::Json || !can_draw(&stderr()) {
        return ProgressBar::hidden();
    }
    // No colours, so that NO_COLOR needs no case of its own.
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
        let mut out = String::new();
        run(&cli.simulate, |text| {
            out.push_str(&text);
            Ok(true)
        })?;
        Ok(out.lines().map(str::to_owned).collect())
    }

    /// A trace of 100 keys in order, ten times over.
    fn trace(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("dproxy-simulate-{name}-{}", std::process::id()));
        let text: String = (0..1000).map(|key| format!("article/{}\n", key % 100)).collect();
        std::fs::write(&path, text).expect("a temporary file");
        path
    }

    #[test]
    fn prints_a_table_with_one_head() {
        let path = trace("runs");
        let file = path.display().to_string();
        let text = lines(&["--trace", &file, "--cache-type=s3fifo", "--capacity=100", "--trace", &file]);
        drop(std::fs::remove_file(&path));
        let text = text.expect("two runs");
        assert_eq!(text.len(), 3);
        assert!(
            text[0].starts_with("cache type") && text[1] == text[2] && text[1].contains("0.1000"),
            "{text:?}"
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = |arguments: &[&str]| lines(arguments).expect_err("an error").to_string();
        let dash = lines(&["--trace", "-"]).expect_err("no file").source().map(ToString::to_string);
        assert!(dash.expect("why").contains("it is read more than once; write it to one"));
        assert!(error(&["--trace", "a", "--capacity", "1,0"]).contains("write entries such as 2000"));
        assert!(
            error(&["--trace", "a", "--cache-type", "arc"]).contains("[possible values: ttl, lru, s3fifo]")
        );
        let path = std::env::temp_dir().join(format!("dproxy-simulate-empty-{}", std::process::id()));
        std::fs::write(&path, "\n").expect("a temporary file");
        let empty = error(&["--trace", &path.display().to_string()]);
        drop(std::fs::remove_file(&path));
        assert!(empty.contains("holds no keys"), "{empty}");
    }
}
