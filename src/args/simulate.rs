//! The flags of `dproxy simulate`, and the plan that they describe.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser, ValueHint};
use clap::{Args, ValueEnum};

use super::{Listed, listed, units};
use crate::lb::balance::Strategy;
use crate::proxy::cache::{Bounds, CacheType};
use crate::simulate::{Capacity, Fleet, Plan, TraceFormat};
use crate::terminal::Format;

/// Without sizes: these percentages of the different keys.
const CAPACITIES: [f64; 3] = [1.0, 5.0, 10.0];

/// Runs a log through the cache of a proxy, to choose its type and size.
///
/// A trace is a list of keys or an access log. Of a log, GET and HEAD with 200 and 304 count, the path without the query is
/// the key, and the other lines are counted. Without --ttl no document expires, and `ttl` is a cache that evicts the oldest
/// entry (FIFO).
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// Files of one key a line, or access logs, in the order of the requests; plain or compressed with zstd or gzip. `-` is
    /// standard input: a pipe is read once, so it needs a --capacity in entries, or --max-bytes.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trace: Vec<PathBuf>,

    /// What the traces are [default: recognised by their first lines].
    #[arg(long, value_name = "FORMAT")]
    pub trace_format: Option<TraceFormat>,

    /// Cache types to compare; ttl without --ttl is first in, first out.
    #[arg(
        long,
        alias = "cache_type",
        value_name = "TYPE",
        value_delimiter = ',',
        value_parser = listed::choice::<CacheType>(),
        default_value = "lru,s3fifo,ttl"
    )]
    pub cache_type: Vec<Listed<CacheType>>,

    /// Sizes to compare: entries such as 2000, or a part of the keys of the trace such as 1% [default: 1%,5%,10%, without
    /// a bound beside --max-bytes].
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = listed::item(str::parse::<Capacity>))]
    pub capacity: Vec<Listed<Capacity>>,

    /// Sizes to compare, in memory: keys, documents and bookkeeping, such as 256MiB,1GiB. Documents are as large as the
    /// replies of the log. It is told as well which size has 95 % of the hits of an endless cache.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = listed::item(cache_size))]
    pub max_bytes: Vec<Listed<usize>>,

    /// How long a document is fresh, by the times of the log [default: for ever].
    #[arg(long, value_name = "TIME", value_parser = units::positive_duration)]
    pub ttl: Option<Duration>,

    /// Shards to divide the lru cache into; 1 makes it exact [default: as many as a proxy would choose].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000), value_name = "N")]
    pub shards: Option<usize>,

    /// How many proxies share the requests, each with a cache of the size: the misses are those of all.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub proxies: usize,

    /// How the balancer before them chooses: each in turn, or for every key its home. The other strategies go by loads, which
    /// no trace has; they spread requests as evenly as round_robin does.
    #[arg(long, default_value = Strategy::RoundRobin.as_str(), value_name = "STRATEGY", value_parser = strategy())]
    pub strategy: Strategy,

    /// The format of the results.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub output: Format,
}

impl SimulateArgs {
    /// What they describe.
    pub fn plan(&self) -> Plan {
        let (given, max_bytes) = (listed::all(&self.capacity), listed::all(&self.max_bytes));
        let capacities = match given.is_empty() && max_bytes.is_empty() {
            true => CAPACITIES.map(Capacity::Percent).to_vec(),
            false => given,
        };
        Plan {
            traces: self.trace.clone(),
            trace_format: self.trace_format,
            cache_types: listed::all(&self.cache_type),
            capacities,
            max_bytes,
            ttl: self.ttl,
            shards: self.shards,
            proxies: self.proxies,
            strategy: self.strategy,
            output: self.output,
        }
    }
}

/// The strategies that a fleet can follow.
fn strategy() -> impl TypedValueParser<Value = Strategy> {
    let names = Fleet::STRATEGIES.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(names).try_map(|name| Strategy::from_str(&name, false))
}

/// A size that holds an entry at least.
fn cache_size(text: &str) -> Result<usize, String> {
    match units::size(text)? {
        size if size < Bounds::LEAST_BYTES => Err("it must be 16KiB at the least".to_owned()),
        size => Ok(size),
    }
}

impl ValueEnum for TraceFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    /// The servers that write it are other names of the combined log.
    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.name());
        Some(match self {
            Self::Keys => value.help("One key a line"),
            Self::Combined => value
                .aliases(["common", "nginx", "apache", "varnish"])
                .help("The common or combined log of nginx, Apache and varnishncsa"),
            Self::CloudFront => value.help("CloudFront's standard log"),
            Self::Caddy => value.help("Caddy's JSON"),
            Self::Envoy => value.help("Envoy's or Istio's JSON, and that of others under the usual names"),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::simulate::command::run;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        simulate: SimulateArgs,
    }

    fn lines(arguments: &[&str]) -> anyhow::Result<Vec<String>> {
        let cli = Cli::try_parse_from([&["dproxy"], arguments].concat())?;
        let mut out = String::new();
        run(&cli.simulate.plan(), |text| {
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
    fn several_proxies_have_copies() {
        let path = trace("fleet");
        let file = path.display().to_string();
        let run = |strategy| {
            let more = ["--cache-type=lru", "--capacity=100", "--proxies=3", strategy];
            lines(&[&["--trace", &file], &more[..]].concat()).expect("a run")
        };
        let (turns, homes) = (run("--strategy=round-robin"), run("--strategy=hash"));
        drop(std::fs::remove_file(&path));
        let last = |text: &[String]| text[1].split_whitespace().skip(4).take(3).collect::<Vec<_>>().join(" ");
        // 100 is no multiple of 3: in three rounds each key has been at each proxy.
        assert_eq!(last(&turns), "300 0.3000 3.00");
        assert_eq!((last(&homes).as_str(), homes[0].contains(" copies  trace")), ("100 0.1000 1.00", true));
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
        assert!(error(&["--trace", "a", "--max-bytes", "1KiB"]).contains("16KiB at the least"));
        let by_load = error(&["--trace", "a", "--proxies", "3", "--strategy", "p2c"]);
        assert!(by_load.contains("[possible values: round_robin, hash]"), "{by_load}");
        assert!(error(&["--trace", "a", "--trace-format", "iis"]).contains("keys, combined, cloudfront"));
        let path = std::env::temp_dir().join(format!("dproxy-simulate-empty-{}", std::process::id()));
        std::fs::write(&path, "\n").expect("a temporary file");
        let empty = error(&["--trace", &path.display().to_string()]);
        drop(std::fs::remove_file(&path));
        assert!(empty.contains("holds no keys"), "{empty}");
    }

    #[test]
    fn a_server_names_its_format() {
        for name in ["nginx", "apache", "varnish", "common", "combined"] {
            assert_eq!(TraceFormat::from_str(name, false), Ok(TraceFormat::Combined), "{name}");
        }
    }
}
