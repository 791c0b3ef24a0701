//! The promises of dproxy against real processes: one binary, a module per topic.
//!
//! Every port is 0, every address is loopback, every wait is for a state and has a deadline. `support` starts nodes,
//! sends requests, and plays faulty upstreams.

mod support;

mod access_log;
mod api;
mod api_cached;
mod api_failing;
mod api_servers;
mod bad_apis;
mod bad_files;
mod bad_input;
mod bad_upstream;
mod bench;
mod blame;
mod browser;
mod caching;
mod changes;
mod client;
mod cluster;
mod config;
mod dialling;
mod documents;
mod explained;
mod failing_origin;
mod failover;
mod freshness;
mod handover;
mod house;
mod http;
mod http_bodies;
mod http_grammar;
mod http_peers;
mod http_refusals;
mod lb_faults;
mod lb_limits;
mod lb_members;
mod lb_polls;
mod lb_purge;
mod lb_rescue;
mod limits;
mod memory;
mod older;
mod otlp;
mod packages;
mod pages;
mod parameters;
mod places;
mod plain;
mod policies;
mod prefixes;
mod process;
mod prometheus;
mod published;
mod purge;
mod schedules;
mod sessions;
mod simulate;
mod simulate_logs;
mod slow;
mod stampede;
mod starting;
mod terminal;
mod tiers;
mod unread;
