//! Other servers in front of nodes: nginx, haproxy and Varnish, each with one listener and its files in a directory of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::ask::Address;
use super::command::{Background, has_command};
use super::eventually;
use super::node::own_host;
use super::temp::TempDir;

/// A running server; it ends on drop.
pub(crate) struct Front {
    _child: Background,
    pub(crate) address: Address,
    _files: TempDir,
}

impl Front {
    /// Starts nginx over these upstreams, with these lines in its only `server`; `None` if it is not installed and this
    /// is not CI.
    pub(crate) fn nginx(upstreams: &[Address], server: &str) -> Option<Self> {
        let servers: String = upstreams.iter().map(|upstream| format!("server {upstream};\n")).collect();
        Self::start("nginx", |dir, address| {
            let dir = dir.display();
            let mut config =
                format!("daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n");
            config += "events {}\nhttp {\naccess_log off;\n";
            for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                writeln!(config, "{name}_temp_path {dir}/{name};").expect("a text");
            }
            config
                + &format!(
                    "proxy_cache_path {dir}/cache keys_zone=documents:1m;\nupstream nodes {{ {servers} }}\n"
                )
                + &format!("server {{ listen {address};\n{server}\n}}\n}}\n")
        })
    }

    /// Starts haproxy over one upstream, with a cache; `None` if it is not installed and this is not CI.
    pub(crate) fn haproxy(upstream: Address) -> Option<Self> {
        Self::start("haproxy", |_, address| {
            format!(
                "defaults\n mode http\n timeout client 30s\n timeout server 30s\n timeout connect 5s\n\
                 cache documents\n total-max-size 4\n max-age 60\n\
                 listen nodes\n bind {address}\n http-request cache-use documents\n\
                 http-response cache-store documents\n server node {upstream}\n"
            )
        })
    }

    /// Starts Varnish over one upstream; `None` if it is not installed and this is not CI.
    pub(crate) fn varnish(upstream: Address) -> Option<Self> {
        let (host, port) = (upstream.host(), upstream.port());
        Self::start("varnishd", |_, _| {
            format!("vcl 4.1;\nbackend node {{ .host = \"{host}\"; .port = \"{port}\"; }}\n")
        })
    }

    fn start(name: &str, config: impl FnOnce(&Path, Address) -> String) -> Option<Self> {
        if !has_command(name, name.trim_end_matches('d')) {
            return None;
        }
        let files = TempDir::new();
        // On an address that no other test listens on: these servers take no port 0.
        let address = Address((own_host(), 8080).into());
        let path = files.path().join("config");
        fs::write(&path, config(files.path(), address)).expect("a file for the configuration");
        let mut command = Command::new(name);
        match name {
            "nginx" => command.arg("-e").arg(files.path().join("start.log")).arg("-c").arg(path),
            "haproxy" => command.arg("-db").arg("-f").arg(path),
            // Without a user of its own, who might not read the files.
            _ => command
                .args(["-F", "-j", "none", "-s", "malloc,8m", "-a", &address.to_string(), "-f"])
                .arg(path)
                .arg("-n")
                .arg(files.path().join("work")),
        };
        let log = fs::File::create(files.path().join("log")).expect("a file for the log");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let front = Self { _child: Background(child.expect("the server starts")), address, _files: files };
        eventually("it listens", || address.connect().ok());
        Some(front)
    }
}
