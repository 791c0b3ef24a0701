//! The terminal: output, colours, keys and signals, in a real one (tmux).

use std::process::Command;

use serde_json::Value;

use crate::support::command::{BINARY, clean, dproxy, has_command, run_to_end, signal, text};
use crate::support::{Address, Data, Node, Start, TempDir, eventually, get, until};

/// A terminal with a shell. It ends on drop with all its processes.
struct Terminal {
    socket: String,
    _directory: TempDir,
}

impl Terminal {
    /// `None` without tmux, where it is optional.
    fn open(variables: &str) -> Option<Self> {
        if !has_command("tmux", "tmux") {
            return None;
        }
        let directory = TempDir::new();
        let socket = directory.path().join("tmux").to_str().expect("a path in UTF-8").to_owned();
        let terminal = Self { socket, _directory: directory };
        let shell = format!("env -u TMUX {variables} PS1='$ ' sh");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", &shell]);
        until("there is a prompt", || terminal.shows("$"));
        Some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut command = clean("tmux");
        command.env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8").args(["-u", "-S", &self.socket]).args(words);
        let output = run_to_end(command, b"");
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.press("Enter");
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The screen with its colours as escape sequences.
    fn painted(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    fn shows(&self, text: &str) -> bool {
        self.screen().contains(text)
    }

    fn waits_for(&self, text: &str) {
        let found = |screen: String| screen.contains(text).then_some(());
        eventually(&format!("the terminal shows {text:?}"), || found(self.screen()));
    }

    /// Whether the terminal is restored: typed text shows, and the picture is cleared.
    fn is_as_before(&self, word: &str) {
        // Earlier keys would still go to the watch.
        until("the picture is cleared", || !self.shows("q leaves"));
        self.types(&format!("echo {word}-$((40+2)); stty -a"));
        self.waits_for(&format!("{word}-42"));
        until("the terminal is as it was", || {
            let screen = self.screen();
            screen.contains(" echo ") && screen.contains(" icanon ") && !screen.contains("q leaves")
        });
    }

    fn watch(&self, node: Address, words: &str) {
        let (host, port) = (node.host(), node.port());
        self.types(&format!(
            "clear; {BINARY} client --metrics --watch --every 100ms --host {host} --port {port} {words}"
        ));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only the tmux server of this socket.
        let _ = Command::new("tmux").args(["-S", &self.socket, "kill-server"]).status();
    }
}

fn cluster() -> (Data, Node, Node, Node) {
    let data = Data::articles(3);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[proxy.address], "--health-interval 100ms --max-failures 1").run();
    (data, origin, proxy, balancer)
}

#[test]
fn the_watch_shows_every_node_and_leaves_by_each_key() {
    let (_data, origin, proxy, balancer) = cluster();
    let Some(terminal) = Terminal::open("") else { return };
    for (key, word) in [("q", "one"), ("Escape", "two"), ("C-c", "three")] {
        terminal.watch(balancer.address, "");
        terminal.waits_for("q leaves");
        terminal.waits_for(&proxy.address.to_string());
        terminal.waits_for("healthy");
        terminal.press(key);
        terminal.is_as_before(word);
    }
    for (node, role) in [(&proxy, "proxy"), (&origin, "origin")] {
        terminal.watch(node.address, "");
        terminal.waits_for(&format!("{role} {}", node.address));
        terminal.press("q");
        terminal.is_as_before(role);
    }
}

#[test]
fn the_watch_shows_load_and_a_node_that_dies() {
    let (_data, _origin, proxy, balancer) = cluster();
    let Some(terminal) = Terminal::open("") else { return };
    terminal.watch(balancer.address, "");
    let dead = proxy.address.to_string();
    eventually("the plot moves and the hits show", || {
        get(balancer.address, "article/1");
        let screen = terminal.screen();
        (screen.contains('█') && screen.contains("100.0%")).then_some(())
    });
    proxy.kill();
    eventually("the node is shown as down", || {
        let screen = terminal.screen();
        screen.lines().any(|line| line.contains(&dead) && line.contains("down")).then_some(())
    });
    let painted = terminal.painted();
    assert!(painted.contains("38;5;1m"), "it is not red: {painted:?}");
}

#[test]
fn the_watch_survives_a_restart_of_what_it_watches() {
    let (_data, _origin, proxy, balancer) = cluster();
    let Some(terminal) = Terminal::open("") else { return };
    let address = balancer.address;
    terminal.watch(address, "");
    terminal.waits_for("healthy");
    balancer.kill();
    terminal.waits_for("no answer since");
    terminal.waits_for("nothing listens on");
    let port = address.port().to_string();
    let _again = Start::balancer(&[proxy.address], &format!("--port {port}")).run();
    until("it is answered again", || !terminal.shows("no answer since"));
    terminal.press("q");
    terminal.is_as_before("back");
}

#[test]
fn a_signal_restores_the_terminal() {
    let (_data, _origin, _proxy, balancer) = cluster();
    let Some(terminal) = Terminal::open("") else { return };
    for name in ["TERM", "INT"] {
        terminal.types("clear; echo shell=$$;");
        terminal.watch(balancer.address, "& echo pid=$!; fg");
        terminal.waits_for("q leaves");
        let pane: u32 =
            terminal.tmux(&["display-message", "-p", "#{pane_pid}"]).trim().parse().expect("a pid");
        let output = Command::new("pgrep").args(["-P", &pane.to_string(), "dproxy"]).output().expect("pgrep");
        signal(text(&output.stdout).trim().parse().expect("one watch"), name);
        terminal.is_as_before(name);
    }
}

#[test]
fn no_color_is_respected() {
    let (_data, _origin, _proxy, balancer) = cluster();
    let Some(terminal) = Terminal::open("NO_COLOR=1") else { return };
    terminal.watch(balancer.address, "");
    terminal.waits_for("healthy");
    let has_colour = || {
        let painted = terminal.painted();
        painted.contains("38;5;") || (30..=37).any(|colour| painted.contains(&format!("[{colour}m")))
    };
    // Bold and underline are no colours.
    assert!(!has_colour(), "{:?}", terminal.painted());
    terminal.press("q");
    terminal.is_as_before("plain");
    terminal.types(&format!("clear; {BINARY} --colour"));
    terminal.waits_for("unexpected argument");
    assert!(!has_colour(), "{:?}", terminal.painted());
}

#[test]
fn colours_are_for_terminals() {
    let Some(terminal) = Terminal::open("") else { return };
    terminal.types(&format!("clear; {BINARY} --colour"));
    terminal.waits_for("unexpected argument");
    let painted = terminal.painted();
    assert!(painted.contains("31m"), "the error is not red: {painted:?}");
    let output = dproxy(&["--colour"]);
    assert!(!output.stderr.contains(&0x1b) && output.status.code() == Some(2));
}

#[test]
fn without_a_terminal_the_watch_is_lines_of_json() {
    let (_data, _origin, proxy, balancer) = cluster();
    get(balancer.address, "article/1");
    let lines = |port: u16| {
        let port = port.to_string();
        let words = ["client", "--metrics", "--watch", "--count", "3", "--every", "50ms", "--port", &port];
        let output = dproxy(&words);
        let lines: Vec<Value> = text(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
            .collect();
        (output.status.code(), lines)
    };
    let (code, told) = lines(balancer.port());
    assert_eq!((code, told.len()), (Some(0), 3));
    let node = &told[2]["nodes"][0];
    assert_eq!(node["node"], proxy.address.to_string());
    assert_eq!(node["state"], "healthy");
    assert!(told[2]["requests_per_second"].is_number() && told[2]["role"] == "balancer");
    let (code, told) = lines(1);
    assert_eq!((code, told.len()), (Some(3), 3));
    assert_eq!(told[0]["no_answer_since"], told[2]["no_answer_since"]);
}

#[test]
fn errors_say_what_to_do_next() {
    for (words, advice) in [
        (&["client", "--metrics", "--port", "1"][..], "start it with: dproxy"),
        (&["client", "--metrics", "--watch", "--every", "0"], "longer than 0"),
        (&["client", "--watch"], "--metrics"),
        (&["origin", "--port", "0", "--data", "/dev/null/none"], "--data"),
        (&["proxy", "--log", "=,="], "write info"),
        (&["origin", "--host", "192.0.2.1", "--port", "0", "--data", "/"], "choose another with --host"),
        (
            &["cluster", "--host", "192.0.2.1", "--http-port", "0", "--data", "/"],
            "choose another with --host",
        ),
        (
            &["lb", "--port", "0", "--http-host", "192.0.2.1", "--http-port", "0"],
            "choose another with --http-host",
        ),
        (&["clutser"], "cluster"),
    ] {
        let output = dproxy(words);
        assert!(!output.status.success());
        let told = text(&output.stderr);
        assert!(told.contains(advice), "{words:?}: {told}");
    }
}

#[test]
fn every_shell_has_its_completions_and_every_command_its_page() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = dproxy(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(
            output.status.success() && script.contains("max-bytes") && script.contains("strategy"),
            "{shell}"
        );
    }
    let directory = TempDir::new();
    let out = directory.path().join("man1");
    let output = dproxy(&["man", "--out", out.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for role in ["dproxy", "dproxy-origin", "dproxy-proxy", "dproxy-lb", "dproxy-client", "dproxy-cluster"] {
        let page = std::fs::read_to_string(out.join(format!("{role}.1"))).expect("a page");
        assert!(page.starts_with(".ie") && page.contains(".TH"), "{role}: {page}");
    }
    let page = std::fs::read_to_string(out.join("dproxy-proxy.1")).expect("a page");
    assert!(page.contains("DPROXY_MAX_BYTES"), "it tells the variables: {page}");
    let output = dproxy(&["man"]);
    assert!(text(&output.stdout).contains(".SH NAME"));
    if has_command("groff", "groff-base") {
        let mut groff = clean("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-z"]);
        let warnings = run_to_end(groff, &output.stdout).stderr;
        assert_eq!(text(&warnings), "");
    }
}

/// The completions of a shell for the last word.
fn offered(shell: &str, before: &str, ask: &str) -> String {
    let directory = TempDir::new();
    let script = directory.path().join("script");
    std::fs::write(&script, dproxy(&["completions", shell]).stdout).expect("a script");
    let mut command = clean(shell);
    command.env("TERM", "xterm").current_dir(directory.path());
    command.args(["-c", &format!("{before}\nsource {}\n{ask}", script.display())]);
    let output = run_to_end(command, b"");
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn shells_offer_the_values_of_a_flag() {
    let words = |flag: &str| {
        format!(
            "COMP_WORDS=(dproxy cluster {flag} ''); COMP_CWORD=3; _dproxy dproxy '' {flag}; echo ${{COMPREPLY[@]}}"
        )
    };
    assert_eq!(offered("bash", "", &words("--cache-type")).trim(), "ttl lru s3fifo");
    assert_eq!(offered("bash", "", &words("--strategy")).trim(), "round_robin least_loaded hash p2c");
    if has_command("fish", "fish") {
        let told = offered("fish", "", "complete -C 'dproxy lb --strategy '");
        assert!(told.contains("p2c") && told.contains("two at random") && !told.contains("script"), "{told}");
    }
    if has_command("zsh", "zsh") {
        let told = offered("zsh", "autoload -U compinit; compinit -D", "echo $_comps[dproxy]");
        assert_eq!(told.lines().last(), Some("_dproxy"), "{told}");
        let script = text(&dproxy(&["completions", "zsh"]).stdout);
        assert!(script.contains(r#":TYPE:((ttl\:"#), "values, not files");
    }
}

#[test]
fn the_version_names_the_build() {
    let version = text(&dproxy(&["--version"]).stdout);
    assert!(version.starts_with(concat!("dproxy ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    assert!(version.contains("debug") || version.contains("release"), "{version}");
    assert_eq!(version.lines().count(), 1);
}

#[test]
fn the_short_help_has_no_limits() {
    for role in ["origin", "proxy", "lb", "cluster"] {
        let [short, long] = ["-h", "--help"].map(|flag| text(&dproxy(&[role, flag]).stdout));
        assert!(short.contains("--host") && short.contains("see more with '--help'"), "{short}");
        assert!(!short.contains("--line-deadline") && long.contains("--line-deadline"), "{role}");
    }
}

#[test]
fn help_fits_a_narrow_terminal_and_shows_an_example() {
    let roles =
        ["origin", "proxy", "lb", "client", "bench", "cluster", "simulate", "check", "completions", "man"];
    for (role, columns) in roles.into_iter().flat_map(|role| [(role, 60), (role, 80)]) {
        for flag in ["-h", "--help"] {
            let mut command = clean(BINARY);
            command.args([role, flag]).env("COLUMNS", columns.to_string());
            let help = text(&run_to_end(command, b"").stdout);
            // Examples have one line each, so that they can be copied.
            let told = help.lines().filter(|line| !line.contains("  dproxy "));
            let widest = told.map(|line| line.chars().count()).max().unwrap_or(0);
            assert!(widest <= columns, "{role} {flag}: {widest} columns");
            assert!(help.contains("Example") && help.contains(&format!("dproxy {role}")), "{role}: {help}");
        }
    }
}

#[test]
fn metrics_and_explain_are_tables_on_a_terminal_and_json_in_a_pipe() {
    let Some(terminal) = Terminal::open("") else { return };
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    let proxy = Start::proxy(origin.address, "").run();
    let balancer = Start::balancer(&[proxy.address], "--health-interval 50ms").run();
    get(balancer.address, "article/1");
    let ask = |words: &str| {
        terminal.types(&format!("clear; {BINARY} client --port {} {words}", balancer.port()));
    };
    ask("--metrics");
    terminal.waits_for("total requests  1");
    until("there is a row for the proxy", || {
        let row = format!("  {}  healthy", proxy.address);
        terminal.screen().lines().any(|line| line.starts_with(&row))
    });
    ask("--explain article/1");
    terminal.waits_for("goes by key");
    assert!(terminal.shows("  proxy ") && terminal.shows("rule"), "{}", terminal.screen());
    ask("--metrics | head -c 30");
    terminal.waits_for("{\"status\":\"OK\",\"data\":{\"str");
}
