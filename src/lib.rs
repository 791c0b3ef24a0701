//! dproxy: a distributed read-through cache for JSON documents.
//!
//! ```text
//! client ──line──▶ net::server ▶ lb::Lb ▶ net::link ──line──▶ net::server ▶ proxy::Proxy ▶ net::link ──line──▶ net::server ▶ origin::Origin ▶ store
//!                                nodes, balance                             cache, flight                                    dir | memory
//! ```
//!
//! A request goes from left to right and its reply comes back the same way. The module list below is the map: roles are
//! named as the subcommands, mechanisms as what they are. `run` puts them together; nothing imports it.

pub mod admin;
pub mod args;
pub mod bench;
pub mod client;
pub mod config;
pub mod cores;
pub mod handler;
pub mod http;
pub mod keylist;
pub mod lb;
pub mod lock;
pub mod net;
pub mod origin;
pub mod per_core;
pub mod pool;
pub mod proxy;
pub mod reference;
pub mod run;
pub mod samples;
pub mod simulate;
pub mod stats;
pub mod terminal;
pub mod trace;
pub mod watch;
pub mod wire;
