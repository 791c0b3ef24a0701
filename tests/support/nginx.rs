//! nginx in front of nodes, with one server block.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Command, Stdio};

use super::ask::Address;
use super::command::has_command;
use super::eventually;
use super::node::own_host;
use super::temp::TempDir;

/// A running nginx; it ends on drop.
pub(crate) struct Nginx {
    child: Child,
    pub(crate) address: Address,
    _files: TempDir,
}

impl Nginx {
    /// Starts nginx over these upstreams, with these lines in its only `server`; `None` if it is not installed and this
    /// is not CI.
    pub(crate) fn start(upstreams: &[Address], server: &str) -> Option<Self> {
        if !has_command("nginx", "nginx") {
            return None;
        }
        let files = TempDir::new();
        let mut servers = String::new();
        for upstream in upstreams {
            writeln!(servers, "server {upstream};").expect("a text");
        }
        // An address that no other test listens on: nginx takes no port 0.
        let address = Address((own_host(), 8080).into());
        let dir = files.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String =
            temporary.iter().map(|name| format!("{name}_temp_path {dir}/{name};\n")).collect();
        let config = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{}}\nhttp {{\naccess_log off;\n{temporary}\
             proxy_cache_path {dir}/cache keys_zone=documents:1m;\n\
             upstream nodes {{ {servers} }}\nserver {{ listen {address};\n{server}\n}}\n}}\n"
        );
        let path = files.path().join("nginx.conf");
        fs::write(&path, config).expect("a file for the configuration");
        let mut command = Command::new("nginx");
        command.arg("-e").arg(files.path().join("start.log")).arg("-c").arg(path);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("nginx starts");
        let nginx = Self { child, address, _files: files };
        eventually("nginx listens", || address.connect().ok());
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
