//! The promises of dproxy, each proved on real processes: one binary, a module per topic.
//!
//! Every port is 0, every address is loopback, every wait is for a state and has a deadline. `support` starts nodes,
//! asks them, and plays their peers.

mod support;

mod bad_files;
mod bad_input;
mod bad_upstream;
mod caching;
mod client;
mod cluster;
mod documents;
mod failover;
mod freshness;
mod house;
mod limits;
mod memory;
mod older;
mod plain;
mod policies;
mod process;
mod purge;
mod sessions;
mod simulate;
mod stampede;
