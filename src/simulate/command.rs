//! `dproxy simulate`: replays traces against caches and prints the misses of each.

use std::fmt::Write;
use std::io::{self, stderr};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use super::sizes::Sizes;
use super::{
    Enough, Log, Needs, PROGRESS_EVERY, Plan, Replay, Request, Simulation, Survey, Trace, TraceError,
    TraceFormat, survey,
};
use crate::proxy::cache::Millis;
use crate::terminal::{Format, can_draw, complain};

/// Replays each trace for all sizes and types in one pass, and prints the results. A part of the keys as a size takes a pass
/// before it, which counts them. Ends early once `print` returns false: its reader has closed.
pub fn run(plan: &Plan, mut print: impl FnMut(String) -> io::Result<bool>) -> anyhow::Result<()> {
    let mut head = plan.output == Format::Text;
    for path in &plan.traces {
        let replays = run_one(plan, path)?;
        if let Some(first) = replays.first().filter(|_| plan.output == Format::Text) {
            notes(first).into_iter().for_each(complain);
        }
        for replay in replays {
            if !print(written(&replay, std::mem::take(&mut head), plan)?)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn run_one(plan: &Plan, path: &Path) -> Result<Vec<Replay>, TraceError> {
    let name = path.display().to_string();
    let survey = if plan.needs().again { Some(count(plan, path)?) } else { None };
    let bar = bar(plan.output, survey.map(|survey| survey.requests), format!("replaying {name}"));
    let mut simulations = plan.simulations(survey.unwrap_or_default().keys);
    let mut trace = Trace::open(path, plan.trace_format, plan.needs())?;
    let done = replay(plan, &mut trace, &mut simulations, &bar);
    bar.finish_and_clear();
    let enough_bytes = done?.and_then(|enough| enough.bytes());
    let log = match trace.format() {
        TraceFormat::Keys => None,
        trace_format => Some(Log { trace_format, left_out: trace.left_out() }),
    };
    let replay = |simulation: &Simulation| simulation.replay(&name, log, plan.choice());
    Ok(simulations.iter().map(|one| Replay { enough_bytes, ..replay(one) }).collect())
}

fn count(plan: &Plan, path: &Path) -> Result<Survey, TraceError> {
    let needs = Needs { again: true, ..plan.needs() };
    let bar = bar(plan.output, None, format!("counting keys of {}", path.display()));
    let survey = survey(Trace::open(path, plan.trace_format, needs)?, |done| bar.set_position(done));
    bar.finish_and_clear();
    survey
}

/// Sends all requests to all caches, and to endless ones when the sizes of the documents are known, which are returned.
fn replay(
    plan: &Plan,
    trace: &mut Trace,
    simulations: &mut [Simulation],
    bar: &ProgressBar,
) -> Result<Option<Enough>, TraceError> {
    let mut enough = plan.needs().sizes.then(|| Enough::new(plan.proxies, plan.ttl));
    let fleet = plan.fleet();
    let mut sizes = plan.needs().sizes.then(|| Sizes::new(plan.too_large()));
    for (done, request) in (1..).zip(trace) {
        let request: Request = request?;
        let now = request.at.filter(|_| plan.ttl.is_some()).unwrap_or(Millis(0));
        let size = sizes.as_mut().map_or(1, |sizes| sizes.size(&request));
        let proxy = fleet.choose(&request.key);
        for simulation in &mut *simulations {
            simulation.request(proxy, &request.key, now, size);
        }
        if let Some(enough) = &mut enough {
            enough.request(proxy, &request.key, now, size);
        }
        if done % PROGRESS_EVERY == 0 {
            bar.set_position(done);
        }
    }
    Ok(enough)
}

/// How an access log was read, `access.log is a combined log (…): 812 requests count, 12 are left out (…)`, and how much memory is
/// enough.
fn notes(replay: &Replay) -> Vec<String> {
    let Replay { trace, requests, .. } = replay;
    let read = replay.log.map(|Log { trace_format, left_out }| {
        let what = trace_format.described();
        format!("{trace} is {what}: {requests} requests count, left out are {left_out}")
    });
    let enough = replay.enough_bytes.map(|bytes| {
        let at = if replay.fleet.is_some() { " at each proxy" } else { "" };
        format!("95 % of the hits of an endless cache: {}{at}, by lru", ByteSize(bytes))
    });
    read.into_iter().chain(enough).collect()
}

/// The line of a result, after the head of the table if `head`. Bytes have a column when they are bounded, copies of a key when
/// there are several proxies.
fn written(replay: &Replay, head: bool, plan: &Plan) -> anyhow::Result<String> {
    if plan.output == Format::Json {
        return Ok(serde_json::to_string(replay)? + "\n");
    }
    let bytes = |text: &str| match plan.max_bytes.is_empty() {
        true => String::new(),
        false => format!(" {text:>10}"),
    };
    let copies = |text: &str| match plan.choice() {
        Some(_) => format!(" {text:>6}"),
        None => String::new(),
    };
    let mut text = String::new();
    if head {
        let [a, b, c, d, e] = ["capacity", "shards", "requests", "misses", "miss ratio"];
        let (bytes, copies) = (bytes("max bytes"), copies("copies"));
        writeln!(text, "{:<10} {a:>10}{bytes} {b:>6} {c:>12} {d:>12} {e:>10}{copies}  trace", "cache type")?;
    }
    let Replay { trace, cache_type, capacity, max_bytes, shards, requests, misses, miss_ratio, .. } = replay;
    let capacity = capacity.map_or("-".to_owned(), |entries| entries.to_string());
    let bytes = bytes(&max_bytes.map_or(String::new(), |bytes| ByteSize(bytes as u64).to_string()));
    let copies = copies(&replay.fleet.map_or(String::new(), |fleet| format!("{:.2}", fleet.copies)));
    writeln!(
        text,
        "{cache_type:<10} {capacity:>10}{bytes} {shards:>6} {requests:>12} {misses:>12} {miss_ratio:>10.4}{copies}  {trace}"
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
