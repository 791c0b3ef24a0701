//! The flags of every node that listens.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{AccessLogArgs, Host, TlsArgs, defaults, units};
use crate::net::{ServerLimits, Unread};

/// The heading of these flags in the help.
pub(super) const HEADING: &str = "Server and its limits";

/// Where to listen, and the limits of a server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub struct ServerArgs {
    /// The address to listen on; localhost is 127.0.0.1 and ::1, and :: all of this machine, of IPv4 as well.
    #[arg(long, env = "DPROXY_HOST", default_value = "127.0.0.1", value_parser = Host::parse,
        value_name = "ADDRESS", help_heading = None)]
    pub host: Host,
    /// Connections open at once. Beyond it, a client with a request takes the place of the connection that has been idle for
    /// longest; when none is idle it is told OVERLOADED. Health checks are answered all the same.
    #[arg(long, env = "DPROXY_MAX_CONNECTIONS", default_value_t = ServerLimits::default().max_connections, value_parser = units::count, value_name = "N")]
    pub max_connections: usize,
    /// Requests under way on one session.
    #[arg(long, env = "DPROXY_MAX_IN_FLIGHT", default_value_t = ServerLimits::default().max_in_flight, value_parser = units::count, value_name = "N")]
    pub max_in_flight: usize,
    /// A request line must arrive whole within this time.
    #[arg(long, env = "DPROXY_LINE_DEADLINE", default_value = defaults::time(ServerLimits::default().line_deadline), value_parser = units::positive_duration, value_name = "TIME")]
    pub line_deadline: Duration,
    /// A reply must be taken within this time.
    #[arg(long, env = "DPROXY_WRITE_DEADLINE", default_value = defaults::time(ServerLimits::default().write_deadline), value_parser = units::positive_duration, value_name = "TIME")]
    pub write_deadline: Duration,
    /// Replies that wait for their readers, at all connections together. From half of it on, clients that read nothing are
    /// cut; beyond it, requests for larger documents are told OVERLOADED [default: an eighth of the memory there is, at most
    /// 256MiB].
    #[arg(long, env = "DPROXY_MAX_UNREAD", value_parser = units::size, value_name = "SIZE")]
    pub max_unread: Option<usize>,
    /// A session on which nothing happens is closed after this time.
    #[arg(long, env = "DPROXY_IDLE_DEADLINE", default_value = defaults::time(ServerLimits::default().idle_deadline), value_parser = units::positive_duration, value_name = "TIME")]
    pub idle_deadline: Duration,
    /// On a stop, what is under way must end within this time.
    #[arg(long, env = "DPROXY_DRAIN", default_value = defaults::time(ServerLimits::default().drain), value_parser = units::duration, value_name = "TIME")]
    pub drain: Duration,
    /// Take the port over from a process that has it with this flag too, and leave it to the next one without a lost
    /// request: start the new process, then stop the old one.
    #[arg(long, env = "DPROXY_REUSE_PORT", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new(),
        value_name = "BOOL")]
    pub reuse_port: bool,
    /// Log requests that take as long or longer, with where the time went and an id that goes from node to node
    /// [default: none].
    #[arg(long, env = "DPROXY_SLOW_LOG", value_parser = units::duration, value_name = "TIME")]
    pub slow_log: Option<Duration>,
    /// Threads that serve, each with its own listener and runtime [default: one per core].
    #[arg(long, env = "DPROXY_THREADS", value_parser = units::few(), value_name = "N")]
    pub threads: Option<usize>,
    /// TLS with clients.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The access log.
    #[command(flatten)]
    pub access_log: AccessLogArgs,
}

impl ServerArgs {
    /// The limits of one server of this process, without TLS; `unread` is shared by all of them.
    pub fn limits(&self, unread: &Arc<Unread>) -> ServerLimits {
        ServerLimits {
            unread: unread.clone(),
            max_connections: self.max_connections,
            max_in_flight: self.max_in_flight,
            enough: usize::MAX,
            line_deadline: self.line_deadline,
            write_deadline: self.write_deadline,
            idle_deadline: self.idle_deadline,
            drain: self.drain,
            slow_log: self.slow_log,
            hand_over: self.reuse_port.then(|| self.threads()),
            tls: None,
        }
    }

    /// The same without an access log, for the nodes of a cluster behind its balancer.
    pub fn unlogged(&self) -> Self {
        Self { access_log: AccessLogArgs { access_log: None, ..self.access_log.clone() }, ..self.clone() }
    }

    /// The number of threads that serve: one per core unless the flag says otherwise.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}
