//! Holds the pages for readers against the program: README, `src/reference`, and the pages of figures and tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use dproxy::args::Cli;
use serde_json::Value;

use crate::support::authority::{Authority, IN_TIME};
use crate::support::http::fetch;
use crate::support::{Data, Start, eventually, get};

const README: &str = include_str!("../README.md");
const METRICS: &str = include_str!("../src/reference/metrics.md");
const SETTINGS: &str = include_str!("../src/reference/settings.md");
const PROTOCOL: &str = include_str!("../src/reference/protocol.md");

/// The texts between backticks.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names in the first column of a page's tables, beneath the headings that begin with `heading`.
fn first_column<'a>(page: &'a str, heading: &str) -> BTreeSet<&'a str> {
    let sections = page.split("\n# ").filter(|section| section.starts_with(heading));
    let rows = sections.flat_map(str::lines).filter_map(|line| line.strip_prefix("| "));
    rows.flat_map(|row| codes(row.split(" | ").next().unwrap_or_default())).collect()
}

/// The names of an object's members.
fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn subcommands() -> Vec<Command> {
    let mut cli = Cli::command();
    cli.build();
    cli.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect()
}

fn flags(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg)))
}

/// The default of a flag, as it would be typed.
fn default_of(arg: &Arg) -> Option<String> {
    let values: Vec<&str> = arg.get_default_values().iter().filter_map(|value| value.to_str()).collect();
    let has_value = arg.get_action().takes_values() && !values.is_empty();
    has_value.then(|| values.join(","))
}

#[test]
fn the_page_of_settings_has_every_flag_and_its_default() {
    let rows: Vec<&str> = SETTINGS.lines().filter_map(|line| line.strip_prefix("| `--")).collect();
    for command in subcommands() {
        for (name, arg) in flags(&command).filter(|(_, arg)| !arg.is_hide_set()) {
            if matches!(name, "help" | "version") {
                continue;
            }
            let flag = format!("`--{name}`");
            let row =
                |row: &&str| format!("`--{row}").split(" | ").next().is_some_and(|it| it.contains(&flag));
            let rows: Vec<&str> = rows.iter().copied().filter(row).collect();
            assert!(!rows.is_empty(), "{}: {flag} is not on the page", command.get_name());
            if let Some(default) = default_of(arg) {
                let is_said = rows.iter().any(|row| codes(&format!("`--{row}")).any(|code| code == default));
                assert!(is_said, "{}: the default of {flag} is {default}", command.get_name());
            }
        }
    }
}

#[test]
fn the_pages_name_no_flag_that_does_not_exist() {
    let commands = subcommands();
    let is_there = |name: &str| commands.iter().flat_map(flags).any(|(long, _)| long == name);
    for (page, text) in
        [("README", README), ("settings", SETTINGS), ("metrics", METRICS), ("protocol", PROTOCOL)]
    {
        let words = codes(text).flat_map(|code| code.split([' ', '=']));
        for name in words.filter_map(|word| word.strip_prefix("--")).filter(|name| !name.is_empty()) {
            // Flags of cargo, and one of a feature.
            let is_else =
                ["bench", "example", "features", "open", "path", "release", "otlp-endpoint"].contains(&name);
            assert!(is_else || is_there(name), "{page}: --{name}");
        }
    }
}

#[test]
fn variables_follow_the_flags_with_one_exception() {
    for command in subcommands() {
        for (name, arg) in flags(&command) {
            let Some(variable) = arg.get_env().and_then(|name| name.to_str()) else { continue };
            let by_rule = format!("DPROXY_{}", name.replace('-', "_").to_uppercase());
            let is_exception = variable == "DPROXY_PROXIES_COUNT" || variable.starts_with("OTEL_");
            assert!(variable == by_rule || is_exception, "{}: {variable} of --{name}", command.get_name());
        }
    }
}

#[test]
fn the_page_of_metrics_has_every_field() {
    let data = Data::articles(2);
    let mut origin = Start::origin(data.path(), "--http-port 0").run();
    let mut proxy = Start::proxy(origin.address, "--http-port 0 --access-log /dev/null").run();
    let mut balancer = Start::balancer(&[proxy.address], "--http-port 0 --health-interval 100ms").run();
    assert_eq!(get(balancer.address, "article/1")["status"], "OK");
    let address = proxy.address.to_string();
    let told = eventually("the proxy is polled", || {
        let told = balancer.metrics();
        let of_node = &told["proxies"][&address];
        (of_node["metrics"].is_object() && of_node["latency_ms"].is_object()).then_some(told)
    });
    let of_node = &told["proxies"][&address];
    assert_eq!(first_column(METRICS, "At an origin"), members(&origin.metrics()));
    assert_eq!(first_column(METRICS, "At a proxy"), members(&proxy.metrics()));
    let of_both: BTreeSet<&str> = members(&told).union(&members(of_node)).copied().collect();
    assert_eq!(first_column(METRICS, "At a balancer"), of_both);
    for inner in [&of_node["latency_ms"], &told["cluster"]] {
        for field in members(inner) {
            assert!(codes(METRICS).any(|code| code == field), "{field}");
        }
    }
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let mut secure =
        Start::proxy(origin.address, &format!("--http-port 0 {}", authority.showing("node"))).run();
    let texts = [origin.serves_http(), proxy.serves_http(), balancer.serves_http(), secure.serves_http()]
        .map(|http| fetch(http, "/metrics").text().to_owned());
    let types = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("# TYPE "));
    let names: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(first_column(METRICS, "For Prometheus"), names);
}

#[test]
fn the_commands_of_readme_are_what_the_program_takes() {
    let mut lines = 0;
    let blocks = README.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    for line in blocks.flat_map(str::lines) {
        let typed = line.split(" # ").next().unwrap_or_default();
        let typed = typed.strip_prefix("cargo run --release -- ").or_else(|| typed.strip_prefix("dproxy "));
        let Some(typed) = typed else { continue };
        let read =
            Cli::command().try_get_matches_from(["dproxy"].into_iter().chain(typed.split_whitespace()));
        assert!(read.is_ok(), "{line}: {}", read.map(|_| ()).unwrap_err());
        lines += 1;
    }
    assert!(lines >= 8, "{lines} commands were found");
}

#[test]
fn the_figures_are_made_by_topics_that_exist() {
    let figures = include_str!("../benches/figures/main.rs");
    let page = include_str!("../benches/README.md");
    let topics =
        figures.split("const TOPICS").nth(1).and_then(|rest| rest.split("];").next()).expect("topics");
    let topics: BTreeSet<&str> =
        topics.split("(\"").skip(1).filter_map(|row| row.split('"').next()).collect();
    let behind = |code: &'static str| {
        code.strip_prefix("cargo bench --bench figures -- ").or(code.strip_prefix("-- "))
    };
    let named = codes(page).chain(codes(README)).filter_map(behind);
    let named: BTreeSet<&str> = named.flat_map(str::split_whitespace).collect();
    assert!(named.contains("speed") && named.is_subset(&topics), "{named:?} of {topics:?}");
    let all =
        page.split("behind --, some of").nth(1).and_then(|rest| rest.split("```").next()).expect("a list");
    let all: BTreeSet<&str> = all.split_whitespace().filter(|word| *word != "#").collect();
    assert_eq!(all, topics, "behind --");
    let speed = page.split("## Speed").nth(1).expect("a heading");
    assert!(speed.find("-- speed`") < speed.find("| server |"), "the table says which command makes it");
}

#[test]
fn the_links_of_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["README.md", "benches/README.md", "tests/README.md"] {
        let path = root.join(page);
        let text = fs::read_to_string(&path).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            assert!(target.exists(), "{page}: {link}");
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).expect("a page").to_lowercase();
                let is_there = text
                    .lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .any(|line| line.trim_start_matches('#').trim().replace(' ', "-") == heading);
                assert!(is_there, "{page}: {link}");
            }
        }
    }
}
