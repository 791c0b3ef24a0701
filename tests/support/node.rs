//! Node processes: started in one line, killed by pid on drop.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

use super::ask::{Address, ask, parse};
use super::command::{BINARY, clean, proc_file, signal};
use super::temp::TempDir;
use super::{PATIENCE, eventually, pause};

/// A command line that becomes a node.
pub(crate) struct Start {
    binary: String,
    args: Vec<String>,
    /// Shell words put before `exec`, such as `ulimit -n 64`, and behind it, such as `2>&-`.
    shell: Option<(String, String)>,
    directory: Option<PathBuf>,
}

impl Start {
    /// A server role with these flags, separated by white space. Any free port unless given.
    pub(crate) fn role(role: &str, words: &str) -> Self {
        let mut args = vec![role.to_owned()];
        args.extend(words.split_whitespace().map(str::to_owned));
        if !args.iter().any(|word| word == "--port") {
            args.extend(["--port".to_owned(), "0".to_owned()]);
        }
        Self { binary: BINARY.to_owned(), args, shell: None, directory: None }
    }

    pub(crate) fn origin(data: &Path, words: &str) -> Self {
        Self::role("origin", words).arg("--data").arg(data.to_str().expect("a path in UTF-8"))
    }

    pub(crate) fn proxy(origin: Address, words: &str) -> Self {
        let (host, port) = (origin.host(), origin.port());
        Self::role("proxy", &format!("--origin-host {host} --origin-port {port} {words}"))
    }

    pub(crate) fn balancer(proxies: &[Address], words: &str) -> Self {
        let list: Vec<String> = proxies.iter().map(Address::to_string).collect();
        Self::role("lb", &format!("--proxies {} {words}", list.join(",")))
    }

    /// One more argument, which may hold white space.
    pub(crate) fn arg(mut self, word: &str) -> Self {
        self.args.push(word.to_owned());
        self
    }

    /// Another build of dproxy.
    pub(crate) fn binary(self, binary: &str) -> Self {
        Self { binary: binary.to_owned(), ..self }
    }

    /// Runs the node by `exec` of a shell: `before` are commands, `redirections` close or move its output.
    pub(crate) fn shell(mut self, before: &str, redirections: &str) -> Self {
        self.shell = Some((before.to_owned(), redirections.to_owned()));
        self
    }

    /// Runs it in a directory.
    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Starts the node and waits for the line with its address.
    pub(crate) fn run(self) -> Node {
        let mut node = self.spawn();
        node.address = node.listens().1;
        node
    }

    /// Starts the node; the caller reads its output, and its address is unknown.
    pub(crate) fn spawn(self) -> Node {
        let scratch = TempDir::new();
        let log = fs::File::create(scratch.path().join("stderr")).expect("a file for the log");
        let mut command = self.command();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = lines_of(child.stdout.take().expect("its standard output"));
        Node { child, printed, scratch, address: Address::loopback(0) }
    }

    fn command(&self) -> Command {
        let mut command = match &self.shell {
            Some((before, redirections)) => {
                let mut shell = clean("sh");
                shell.arg("-c").arg(format!("{before}\nexec \"$0\" \"$@\" {redirections}")).arg(&self.binary);
                shell
            }
            None => clean(&self.binary),
        };
        command.args(&self.args);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

/// A running node. It is killed and awaited on drop.
pub(crate) struct Node {
    child: Child,
    printed: Receiver<String>,
    scratch: TempDir,
    /// Its address.
    pub(crate) address: Address,
}

impl Node {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next line of its standard output.
    pub(crate) fn prints(&mut self) -> String {
        match self.printed.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(error) => panic!("nothing printed ({error}); it logged: {}", self.log()),
        }
    }

    /// Whether its output has ended and is read.
    pub(crate) fn has_printed_all(&mut self) -> bool {
        self.printed.recv_timeout(PATIENCE).is_err()
    }

    /// Whether it ends without a line that has `text`; else that line is read.
    pub(crate) fn ends_before(&mut self, text: &str) -> bool {
        loop {
            match self.printed.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return false,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(error) => panic!("neither printed nor ended ({error}); it logged: {}", self.log()),
            }
        }
    }

    /// Reads the line of a listener: `dproxy <role> listens on <address>`.
    pub(crate) fn listens(&mut self) -> (String, Address) {
        let line = self.prints();
        let parts = line.strip_prefix("dproxy ").and_then(|rest| rest.split_once(" listens on "));
        let (role, address) = parts.unwrap_or_else(|| panic!("not the line of a listener: {line:?}"));
        let address = address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        (role.to_owned(), Address(address))
    }

    /// Reads the line of an HTTP listener: `dproxy <role> serves http on http://<address>/`.
    pub(crate) fn serves_http(&mut self) -> Address {
        let line = self.prints();
        let address = line.split_once(" serves http on http://").and_then(|(_, rest)| rest.strip_suffix('/'));
        let address = address.unwrap_or_else(|| panic!("not the line of an HTTP listener: {line:?}"));
        Address(address.parse().unwrap_or_else(|_| panic!("no address in {line:?}")))
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("stderr")).unwrap_or_default()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// `kill -9`, and its end.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Waits for it to end by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the node ends", || self.child.try_wait().expect("its state"))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_none()
    }

    /// The `data` of its METRICS.
    pub(crate) fn metrics(&self) -> Value {
        parse(&ask(self.address, "METRICS"))["data"].take()
    }

    /// One number of its METRICS.
    pub(crate) fn count(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        metrics[name].as_f64().unwrap_or_else(|| panic!("no number {name} in {metrics}"))
    }

    /// Whether this balancer knows a proxy as healthy.
    pub(crate) fn holds_healthy(&self, proxy: Address) -> bool {
        let metrics = self.metrics();
        let healthy = &metrics["proxies"][proxy.to_string()]["healthy"];
        healthy.as_bool().unwrap_or_else(|| panic!("no health of {proxy} in {metrics}"))
    }

    /// Resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> u64 {
        self.resident_kib() / 1024
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Resident memory in KiB that is this process's own: without the pages of the program's file.
    pub(crate) fn own_kib(&self) -> u64 {
        self.status_kib("RssAnon:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status = proc_file(self.pid(), "status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of status");
        line.trim().trim_end_matches(" kB").parse().expect("kB")
    }

    /// Peak resident memory in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = proc_file(self.pid(), "status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kB") / 1024
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("its descriptors").count()
    }

    /// Accepted open connections, from the kernel.
    pub(crate) fn accepted(&self) -> usize {
        let own = |socket: &Socket| socket.local == self.address && socket.state == "01" && socket.is_held;
        sockets().iter().filter(|socket| own(socket)).count()
    }

    /// Processor time within the window, in hundredths of a second.
    pub(crate) fn busy_within(&self, window: Duration) -> u64 {
        let before = self.busy();
        pause(window);
        self.busy() - before
    }

    fn busy(&self) -> u64 {
        let stat = proc_file(self.pid(), "stat");
        let (_, fields) = stat.rsplit_once(')').expect("the fields behind the name");
        // utime and stime, fields 14 and 15 (proc_pid_stat(5)).
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
    }

    fn end(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            #[expect(clippy::print_stderr, reason = "shown with the failure of the test")]
            {
                eprintln!("--- node {} on {} logged at last:\n{}", self.pid(), self.address, tail.join("\n"));
            }
        }
    }
}

/// The lines of a pipe; the channel ends with the pipe.
pub(crate) fn lines_of(pipe: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A loopback address of this test alone, so that the port of a restarted node is free.
pub(crate) fn own_host() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(2);
    let pid = std::process::id();
    let test = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(test < 250, "more addresses than the scheme has");
    Ipv4Addr::new(127, 1 + (pid >> 8 & 0x7f) as u8, pid as u8, test as u8)
}

/// The listening address on a host of [`own_host`], from the kernel.
pub(crate) fn listener_on(host: Ipv4Addr) -> Option<Address> {
    sockets().into_iter().find(|socket| socket.state == "0A" && socket.local.0.ip() == host).map(|s| s.local)
}

/// A row of the kernel's table of TCP sockets.
struct Socket {
    local: Address,
    /// `01` is established, `0A` listens.
    state: String,
    /// Whether a process holds it; sockets that wait for accept have none.
    is_held: bool,
}

fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's sockets");
    table.lines().skip(1).filter_map(socket).collect()
}

fn socket(row: &str) -> Option<Socket> {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let (host, port) = fields.get(1)?.split_once(':')?;
    let host = Ipv4Addr::from(u32::from_str_radix(host, 16).ok()?.to_ne_bytes());
    let local = Address((host, u16::from_str_radix(port, 16).ok()?).into());
    Some(Socket { local, state: fields.get(3)?.to_string(), is_held: *fields.get(9)? != "0" })
}
