//! Settings: flag over variable over file, and the errors of a wrong file.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use clap::{Arg, Command, CommandFactory};
use dproxy::args::Cli;

use crate::support::ask::get;
use crate::support::command::{BINARY, clean, dproxy, run_to_end, text};
use crate::support::{Data, Start, TempDir, until};

/// A file with these lines, in a directory that is removed on drop.
fn file(lines: &str) -> (TempDir, String) {
    let directory = TempDir::new();
    let path = directory.path().join("dproxy.toml");
    fs::write(&path, lines).expect("a file for the test");
    let path = path.to_str().expect("a path in UTF-8").to_owned();
    (directory, path)
}

fn with_variables(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = clean(BINARY);
    command.args(words).envs(variables.iter().copied());
    run_to_end(command, b"")
}

/// The errors of a wrong file, one per line, without its path.
fn problems(lines: &str) -> Vec<String> {
    let (_directory, path) = file(lines);
    let output = dproxy(&["check", "--config", &path]);
    assert_eq!(output.status.code(), Some(2), "{lines}");
    let told = text(&output.stderr);
    told.lines().map(|line| line.strip_prefix(&path).unwrap_or(line).to_owned()).collect()
}

#[test]
fn every_setting_has_its_variable() {
    // An action such as --get is no setting.
    let said = [
        "help",
        "version",
        "get",
        "keys",
        "metrics",
        "purge",
        "purge-soft",
        "explain",
        "watch",
        "count",
        "changed",
        "wait",
    ]
    .into_iter()
    .chain(["out", "drain", "undrain", "force", "follow"]);
    let said: BTreeSet<&str> = said.collect();
    let mut command = Cli::command();
    command.build();
    let mut without = Vec::new();
    // The other subcommands, such as bench and simulate, run once and end.
    let roles = ["origin", "proxy", "lb", "client", "cluster"];
    for role in command.get_subcommands().filter(|role| roles.contains(&role.get_name())) {
        for arg in role.get_arguments() {
            let Some(long) = arg.get_long().filter(|long| !said.contains(long)) else { continue };
            let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
            if !variable.is_some_and(|name| name.starts_with("DPROXY_")) {
                without.push(format!("{} --{long}", role.get_name()));
            }
        }
    }
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() {
    let (_directory, path) = file("[proxy]\nttl = \"7s\"\ncapacity = 77\nmax-fetches = 7\n[lb]\nport = 1\n");
    let output = with_variables(&["check", "proxy", "--config", &path], &[("DPROXY_CAPACITY", "78")]);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output.stdout);
    let row = |name: &str| -> Vec<String> {
        let row = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
        let row = row.unwrap_or_else(|| panic!("no {name} in {shown}"));
        row.split_whitespace().skip(1).map(str::to_owned).collect()
    };
    assert_eq!(row("ttl"), ["7s", &format!("{path}:2")]);
    assert_eq!(row("capacity"), ["78", "DPROXY_CAPACITY"]);
    assert_eq!(row("max-fetches"), ["7", &format!("{path}:4")]);
    assert_eq!(row("max-waiters"), ["10000", "default"]);
    let memory = ["of", "MiB,", "the"];
    for (name, size) in [("max-bytes", "MiB"), ("max-unread", "MiB")] {
        let row = row(name);
        assert!(row[0].ends_with(size) && row[1] == "default,", "{row:?}");
        assert_eq!([&row[2], &row[4], &row[5]], memory, "what it was chosen from");
    }
    assert_eq!(row("threads"), ["one", "per", "core", "default"]);
    assert!(!shown.contains("not set"), "{shown}");

    // On real nodes the port that listens tells which setting won.
    let data = Data::articles(1);
    let (_directory, path) = file("[origin]\nhost = \"127.0.0.9\"\nport = 0\n[log]\nlog = \"off\"\n");
    let start = |words: &str| Start::origin(data.path(), words).arg("--config").arg(&path);
    assert_eq!(start("").run().address.host(), "127.0.0.9");
    assert_eq!(start("").shell("export DPROXY_HOST=127.0.0.8", "").run().address.host(), "127.0.0.8");
    let told = start("--host 127.0.0.7").shell("export DPROXY_HOST=127.0.0.8", "").run();
    assert_eq!(told.address.host(), "127.0.0.7");
    assert_eq!(told.log(), "");
}

#[test]
fn a_file_describes_a_whole_cluster() {
    let data = Data::articles(1);
    let path = data.path().display();
    let lines = format!(
        "[cluster]\ndata = \"{path}\"\nproxies = 2\norigin_port = 0\nproxy-port = 0\nport = 0\n\
        cache_type = \"lru\"\nstrategy = \"least_loaded\"\n"
    );
    let (_directory, path) = file(&lines);
    let mut cluster = Start::role("cluster", "").arg("--config").arg(&path).spawn();
    let roles: Vec<_> = (0..4).map(|_| cluster.listens()).collect();
    assert_eq!(
        roles.iter().map(|(role, _)| role.as_str()).collect::<Vec<_>>(),
        ["origin", "proxy", "proxy", "balancer"]
    );
    cluster.address = roles[3].1;
    assert_eq!(get(cluster.address, "article/1")["status"], "OK");
    assert_eq!(cluster.metrics()["strategy"], "least_loaded");
}

#[test]
fn a_cluster_ignores_no_table_in_silence() {
    let (_directory, path) =
        file("[cluster]\nproxies = 2\n\n[proxy]\nttl = \"5s\"\n[lb]\nmax-failures = 2\n");
    let output = dproxy(&["cluster", "--config", &path]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains(":5: [proxy] ttl") && said.contains(":7: [lb] max-failures"), "{said}");
    assert_eq!(
        dproxy(&["check", "--config", &path]).status.code(),
        Some(0),
        "a file may be for several commands"
    );
}

#[test]
fn the_variable_names_a_file_too() {
    let (_directory, path) = file("[client]\nport = 1\n");
    let output = with_variables(&["client", "--get", "a/1"], &[("DPROXY_CONFIG", &path)]);
    assert!(text(&output.stderr).contains("127.0.0.1:1"), "{output:?}");
    let output = dproxy(&["client", "--get", "a/1", "--config", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/no/such/file"));
}

#[test]
fn errors_have_a_line_number_and_a_remedy() {
    let told = problems(
        "# first\n[proxy]\ncache_tpye = \"lru\"\nttl = \"soon\"\nport = 70000\nmax-bytes = [1]\n\
        [orgin]\n[log]\nlog-format = \"xml\"\n[lb]\nproxies = [\"nonsense\"]\nport = 1\n",
    );
    let expected: [(usize, &[&str]); 7] = [
        (3, &["cache_tpye", "did you mean cache-type?"]),
        (4, &["soon", "250ms"]),
        (5, &["70000", "from 0 to 65535"]),
        (6, &["one value"]),
        (7, &["[orgin]", "did you mean origin?"]),
        (9, &["xml", "text, json"]),
        (11, &["nonsense", "host:port"]),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (line, words)) in told.iter().zip(expected) {
        assert!(told.starts_with(&format!(":{line}: ")), "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{words:?} in {told}");
    }
}

#[test]
fn syntax_errors_have_a_line_number() {
    for (lines, line, word) in [
        ("[proxy]\nport = 1\nport = 2\n", 3, "duplicate"),
        ("[proxy]\ncache-type = \"lru\"\ncache_type = \"lru\"\n", 3, "line 2"),
        ("port = 1\n", 1, "no table"),
        ("[proxy]\nttl = 2020-01-01\n", 2, "date"),
        ("[proxy\n", 1, ""),
        ("[proxy]\nttl = \n", 2, ""),
        ("[client]\nget = \"a/1\"\n", 2, "no setting"),
    ] {
        let told = problems(lines);
        assert!(told[0].starts_with(&format!(":{line}: ")) && told[0].contains(word), "{lines}: {told:?}");
    }
}

#[test]
fn a_node_does_not_start_with_a_wrong_file() {
    let (_directory, path) = file("[client]\nprot = 1\n");
    let output = dproxy(&["client", "--get", "a/1", "--config", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(":2: ") && output.stdout.is_empty());
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let output = with_variables(&["check"], &[("DPROXY_TTTL", "3s")]);
    assert!(text(&output.stderr).contains("did you mean DPROXY_TTL?"));
    let output = with_variables(&["check"], &[("DPROXY_TTL", "soon")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("soon"));
    // A node and a client warn as well when they start.
    let data = Data::articles(1);
    let node = Start::origin(data.path(), "").shell("export DPROXY_HOTS=::1", "").run();
    until("the warning is logged", || {
        node.log().contains("DPROXY_HOTS sets nothing; did you mean DPROXY_HOST?")
    });
    let output = with_variables(&["client", "--get", "a/1", "--port", "1"], &[("DPROXY_TIMOUT", "3s")]);
    assert!(text(&output.stderr).contains("did you mean DPROXY_TIMEOUT?"));
}

#[test]
fn an_error_in_a_variable_names_it() {
    for (words, name, value) in [
        (&["proxy"][..], "DPROXY_PORT", "abc"),
        (&["proxy"], "DPROXY_CACHE_TYPE", "arc"),
        (&["lb"], "DPROXY_PROXIES", "nowhere"),
        (&["proxy"], "DPROXY_LOG_FORMAT", "xml"),
    ] {
        let output = with_variables(words, &[(name, value)]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        let told = text(&output.stderr);
        assert!(told.contains(&format!("invalid value '{value}'")), "{told}");
        assert!(told.contains(&format!("; the variable {name} holds it; see dproxy ")), "{told}");
    }
    let typed = with_variables(&["proxy", "--port", "abc"], &[("DPROXY_PORT", "8001")]);
    let told = text(&typed.stderr);
    assert!(told.contains("invalid value 'abc'") && !told.contains("the variable"), "{told}");
}

#[test]
fn a_file_that_cannot_be_a_configuration_is_refused() {
    let (_directory, path) = file("");
    for (bytes, why) in [(&b"[proxy]\nttl = \xff"[..], "UTF-8"), (&[b'#'; (1 << 20) + 1], "1 MiB")] {
        fs::write(&path, bytes).expect("a file for the test");
        let output = dproxy(&["check", "--config", &path]);
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(dproxy(&["check", "--config", "/dev/zero"]).status.code(), Some(2));
    // A byte order mark, as some editors write it, is ignored.
    fs::write(&path, "\u{feff}[proxy]\r\nttl = \"3s\"\r\n").expect("a file for the test");
    let output = dproxy(&["check", "--config", &path]);
    assert!(output.status.success() && text(&output.stdout).contains(&format!("{path}:2")));
}

#[test]
fn every_flag_can_stand_in_a_file() {
    let mut command = Cli::command();
    command.build();
    let has_default = |arg: &&Arg| arg.get_env().is_some() && !arg.get_default_values().is_empty();
    let mut lines = String::new();
    let role_lines = |role: &Command| {
        let args = role.get_arguments().filter(has_default).filter(|arg| !arg.is_global_set());
        let line = |arg: &Arg| {
            let value = arg.get_default_values()[0].to_string_lossy().into_owned();
            let value =
                if ["true", "false"].contains(&value.as_str()) { value } else { format!("{value:?}") };
            format!("{} = {value}\n", arg.get_long().expect("a long flag"))
        };
        args.map(line).collect::<String>()
    };
    for role in command.get_subcommands() {
        let settings = role_lines(role);
        if !settings.is_empty() {
            lines += &format!("[{}]\n{settings}", role.get_name());
        }
    }
    assert!(lines.lines().count() > 60, "{lines}");
    let (_directory, path) = file(&lines);
    let output = dproxy(&["check", "--config", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn the_definition_of_the_flags_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn limits_that_do_not_fit_together_are_a_warning() {
    let told = |lines: &str| {
        let (_directory, path) = file(lines);
        let output = dproxy(&["check", "--config", &path]);
        assert_eq!(output.status.code(), Some(0), "{lines}");
        text(&output.stderr)
    };
    let slow = "[proxy]\nfetch-deadline = \"5s\"\n";
    assert_eq!(told(&format!("{slow}[lb]\ntry-deadline = \"6s\"\n")), "");
    let misfit = told(&format!("{slow}[lb]\ntry-deadline = \"1s\"\n"));
    let advice = "[lb] try-deadline (1s) should be greater than [proxy] fetch-deadline (5s)";
    assert!(misfit.contains(advice), "{misfit}");
    let misfit = told("[proxy]\nmax-document = \"2MiB\"\n[lb]\nport = 1\n");
    let advice = "[lb] max-document (1MiB) should be no less than [proxy] max-document (2MiB)";
    assert!(misfit.contains(advice), "{misfit}");
    assert_eq!(told("[cluster]\nfetch-deadline = \"5s\"\n").lines().count(), 1, "the default of the other");
}

#[test]
fn two_settings_that_contradict_each_other_are_refused() {
    let (_directory, path) = file("[proxy]\nmin-ttl = \"2m\"\nmax-ttl = \"1m\"\n");
    let lives = "[proxy] max-ttl (1m) should be no less than [proxy] min-ttl (2m)";
    for (words, why) in [
        (&["check", "--config", &path][..], lives),
        (&["proxy", "--config", &path], lives),
        (&["proxy", "--min-ttl", "2m", "--max-ttl", "1m"], lives),
        (&["cluster", "--backoff", "2m"], "[lb] max-backoff (1m)"),
        (&["client", "--get", "a/1", "--wait", "all"], "--wait"),
        (&["client", "--changed", "a/1", "--force"], "--force"),
        (&["client", "--follow", "a/1", "--watch"], "--watch"),
    ] {
        let output = dproxy(words);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(why), "{words:?}: {said}");
    }
}

#[test]
fn an_empty_variable_and_one_of_kubernetes_are_unset() {
    let variables = [("DPROXY_PORT", "tcp://10.0.0.7:8000"), ("DPROXY_TTL", ""), ("DPROXY_CONFIG", "")];
    let service = [("DPROXY_SERVICE_HOST", "10.0.0.7"), ("DPROXY_SERVICE_PORT_LINE", "8000")];
    let address = [("DPROXY_PORT_8000_TCP_ADDR", "10.0.0.7"), ("DPROXY_PORT_8000_TCP_PROTO", "tcp")];
    let variables = [&variables[..], &service, &address].concat();
    let output = with_variables(&["check", "proxy"], &variables);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = text(&output.stderr);
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("DPROXY_PORT is passed over") && told.contains("Kubernetes"), "{told}");
    let settings = text(&output.stdout);
    let port = settings.lines().find(|line| line.trim_start().starts_with("port ")).unwrap_or_default();
    assert!(port.contains("8001") && port.ends_with("default"), "{settings}");
}
