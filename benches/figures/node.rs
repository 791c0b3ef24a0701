//! Nodes as processes, and the kernel's counts of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;

/// The kernel counts processor time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Processor time.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// In user mode.
    pub(crate) own: Duration,
    /// In the kernel.
    pub(crate) kernel: Duration,
}

impl Cpu {
    /// Total and kernel time since `before`, in microseconds per request.
    pub(crate) fn since(self, before: Self, requests: f64) -> (f64, f64) {
        let kernel = self.kernel - before.kernel;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests;
        (each(self.own - before.own + kernel), each(kernel))
    }
}

/// A process that is killed on drop.
pub(crate) struct Node {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Node {
    fn start(words: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_dproxy")).args(words))
    }

    /// Starts a program whose first line has its address.
    fn run(program: &mut Command) -> Self {
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("dproxy starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
        Self { child, address: address.expect("a line that tells where it listens") }
    }

    /// Starts another program, which will listen at this address; `None` when it does not.
    pub(crate) async fn foreign(program: &mut Command, address: SocketAddr) -> Option<Self> {
        let child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut node = Self { child, address };
        while std::net::TcpStream::connect(address).is_err() {
            if node.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return None;
            }
            sleep(TICK).await;
        }
        Some(node)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it has ended");
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill runs").success());
    }

    /// Pins it to some of the processors.
    pub(crate) fn pin(self, cpus: &str) -> Self {
        pin(self.child.id(), cpus);
        self
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("a process that runs")
    }

    /// Its processor time so far.
    pub(crate) fn cpu(&self) -> Cpu {
        let stat = self.proc("stat");
        let mut fields = stat.rsplit(") ").next().expect("fields").split(' ').skip(11);
        let mut next = || TICK * fields.next().and_then(|ticks| ticks.parse().ok()).expect("ticks");
        Cpu { own: next(), kernel: next() }
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kB") * 1024
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An origin over a directory of documents.
pub(crate) fn origin(data: &Path, port: u16) -> Node {
    Node::start(&["origin", "--port", &port.to_string(), "--data", &data.to_string_lossy()])
}

/// A proxy in front of an origin.
pub(crate) fn proxy(origin: SocketAddr, port: u16, words: &str) -> Node {
    let (port, origin) = (port.to_string(), origin.port().to_string());
    let words: Vec<&str> = words.split_whitespace().collect();
    Node::start(&[&["proxy", "--port", &port, "--origin-port", &origin], &words[..]].concat())
}

/// A proxy in front of an API.
pub(crate) fn api_proxy(url: &str, words: &str) -> Node {
    let words: Vec<&str> = words.split_whitespace().collect();
    Node::start(&[&["proxy", "--port", "0", "--origin", url], &words[..]].concat())
}

/// A balancer over proxies.
pub(crate) fn balancer(proxies: &[SocketAddr], words: &str) -> Node {
    let proxies: Vec<String> = proxies.iter().map(SocketAddr::to_string).collect();
    let proxies: Vec<&str> = proxies.iter().map(String::as_str).collect();
    let words: Vec<&str> = words.split_whitespace().collect();
    Node::start(&[&["lb", "--port", "0"], &words[..], &["--proxies"], &proxies].concat())
}

/// One proxy with several addresses, each a proxy of its own to the balancer.
pub(crate) fn proxy_at(origin: SocketAddr, words: &str, addresses: usize) -> (Node, Vec<SocketAddr>) {
    let node = proxy(origin, 0, &format!("{words} --host 0.0.0.0"));
    let at = |nth: usize| [127, 0, (nth / 250) as u8, (nth % 250 + 1) as u8];
    let listed = (0..addresses).map(|nth| (at(nth), node.address.port()).into()).collect();
    (node, listed)
}

/// The server of `echo`, on one thread.
pub(crate) fn echo() -> Node {
    own(&[super::echo::WORD])
}

/// The server of `map` with this number of documents.
pub(crate) fn map(entries: u64, size: usize) -> Node {
    own(&[super::map::WORD, &entries.to_string(), &size.to_string()])
}

/// This program with these arguments.
fn own(words: &[&str]) -> Node {
    Node::run(Command::new(std::env::current_exe().expect("this program")).args(words))
}

/// Pins a process to some of the processors.
pub(crate) fn pin(pid: u32, cpus: &str) {
    let taskset = Command::new("taskset").args(["-a", "-c", "-p", cpus, &pid.to_string()]).output();
    assert!(taskset.expect("the taskset command").status.success());
}

/// Raises the limit of descriptors, for this process and its children, to the machine's maximum.
pub(crate) fn allow_many_descriptors() {
    let hard = Command::new("sh").args(["-c", "ulimit -Hn"]).output().expect("a shell").stdout;
    let hard = String::from_utf8(hard).expect("text").trim().to_owned();
    let (own, limit) = (std::process::id().to_string(), format!("--nofile={hard}:{hard}"));
    let set = Command::new("prlimit").args(["--pid", &own, &limit]).status();
    assert!(set.expect("the prlimit command").success());
}

/// A directory of documents, removed on drop.
pub(crate) struct Documents(PathBuf);

impl Documents {
    /// `article/1` and so on, of 1 kB.
    pub(crate) fn write(count: usize) -> Self {
        let path = std::env::temp_dir().join(format!("dproxy-figures-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        for id in 1..=count {
            let document = super::made::document(id as u64, 1000);
            fs::write(path.join(format!("article{id}.json")), document).expect("a file");
        }
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        // A leftover is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
