//! dproxy: a distributed read-through cache for JSON documents.
//!
//! ```text
//! client ──line──▶ net::server ▶ lb::Lb ▶ net::link ──line──▶ net::server ▶ proxy::Proxy ▶ net::link ──line──▶ net::server ▶ origin::Origin ▶ store
//!                                nodes, balance                             cache, flight                                    dir | memory
//! ```
//! A request goes from left to right, and its reply comes back the same way.
//!
//! # The map
//!
//! | module | what it is |
//! |---|---|
//! | [`wire`] | the protocol, pure: keys, requests, documents, replies |
//! | [`handler`] | the seam between a front end and a role: a request goes in, a reply comes out |
//! | [`net`] | bytes: [`net::Server`] serves a role, [`net::Link`] asks a node |
//! | [`origin`] | the role that holds documents, over any [`origin::store::Store`] |
//! | [`proxy`] | the role that caches them in front of an origin |
//! | [`source`] | the seam between a proxy and what it fetches from: a node of ours, or an API |
//! | [`lb`] | the role that spreads requests over proxies and hides their failures |
//! | [`http`] | the second front end: documents, `/metrics` and the live page over HTTP |
//! | [`access_log`] | a line for each request, written by a thread of its own |
//! | [`admin`], [`stats`], [`trace`] | who may purge and drain; counters; the spans of a request |
//! | [`certificates`] | until when the certificates in use are valid, for METRICS |
//! | [`blame`] | whose fault a failure is: of a document, of its source, or our own |
//! | [`samples`] | METRICS as views of a node read them |
//! | [`mod@reference`] | pages to look things up in |
//!
//! Roles are named as the subcommands of the program, mechanisms as what they are.
//!
//! | to change | look in |
//! |---|---|
//! | the default of a setting | the `Default` of its role: `proxy/mod.rs`, `lb/config.rs`, `net/shared.rs`, `net/link/mod.rs` |
//! | a field of METRICS | `proxy/metrics.rs`, `lb/metrics.rs`; then `http/metrics/families.rs` and `reference/metrics.md` |
//! | a strategy, a type of cache | `lb/balance/mod.rs`, `proxy/cache/layout.rs`; then `args/choices.rs` |
//! | what counts as a failure of a node | `blame.rs` judges, `lb/health.rs` and `proxy/gate.rs` count |
//! | what a node owes after a purge | `lb/purge.rs` sends, `lb/owed.rs` holds, `lb/node.rs` keeps requests away |
//! | the text of an error | beside what refuses: `proxy/upstream.rs`, `lb/tries.rs`, `wire/key.rs`, `origin/complaints.rs` |
//! | connections to an upstream | `net/link/session.rs` for sessions, `net/link/pace.rs` for plain ones |
//!
//! # A node within a program
//!
//! ```
//! use std::net::{Ipv4Addr, SocketAddr};
//!
//! use dproxy::net::{Link, LinkLimits, Server, ServerLimits, transport::bind};
//! use dproxy::origin::{Origin, OriginConfig, store::MemoryStore};
//! use dproxy::wire::{Key, MAX_DOCUMENT, ReplyView, Request};
//! use tokio::time::{Duration, Instant};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let documents = MemoryStore::new(MAX_DOCUMENT);
//! documents.put("article/1", r#"{ "title": "Hello" }"#);
//! let origin = Origin::new(documents, OriginConfig::default());
//! let server = Server::new(origin, ServerLimits::default(), CancellationToken::new());
//! let bound = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1, false)?.remove(0);
//! let link = Link::new(bound.address()?.into(), LinkLimits::default());
//! let listener = bound.listen()?;
//! tokio::spawn(async move { server.serve(listener).await });
//!
//! let request = Request::Get(Key::parse("article/1")?);
//! let line = link.ask(request, Instant::now() + Duration::from_secs(5)).await?;
//! assert_eq!(ReplyView::parse(&line)?.data, r#"{"title":"Hello"}"#);
//! # Ok(())
//! # }
//! ```
//! `examples/embedded.rs` puts a proxy and a balancer in front of it. Every setting of a role has a default, in the role's
//! file; a library reads neither flags nor the environment.
//!
//! # Features
//!
//! The program needs `tools` (on by default: everything) or `cli` (nodes and the client alone). A program that embeds nodes
//! needs neither: `default-features = false`. `otlp` sends spans of requests to a collector, and is off by default.

pub mod access_log;
pub mod admin;
pub mod blame;
pub mod certificates;
#[cfg(test)]
mod fuzz;
pub mod handler;
pub mod http;
pub mod lb;
#[doc(hidden)]
pub mod lock;
pub mod net;
pub mod origin;
mod pool;
pub mod proxy;
pub mod reference;
pub mod samples;
pub mod source;
pub mod stats;
pub mod trace;
pub mod wire;

// What the program is made of beside its nodes. Only `main`, tests and benchmarks may rely on it.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod args;
#[cfg(feature = "tools")]
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod client;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod cores;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod keylist;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod memory;
#[doc(hidden)]
pub mod per_core;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod run;
#[cfg(feature = "tools")]
#[doc(hidden)]
pub mod simulate;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod terminal;
#[cfg(feature = "tools")]
#[doc(hidden)]
pub mod watch;
