//! The promises in figures, measured: `cargo bench --bench figures`, or some of it: `… -- overload stampede`.
//!
//! | | |
//! |---|---|
//! | `speed` | requests in a second, beside nginx, haproxy and varnish |
//! | `connections`, `peers`, `members`, `entries` | the cost of a request with many of them |
//! | `large` | a megabyte through the balancer, nginx and haproxy, by the size of a document |
//! | `api` | misses before an API, beside nginx's cache, and the bytes of an unchanged document |
//! | `purges` | hits while 256 prefixes are purged at once |
//! | `stampede` | a thousand clients, one cold key |
//! | `overload` | three times the peak |
//! | `faults` | the clients' view of a cluster while a node fails |
//! | `spoilt` | … while replies of one proxy are late, corrupted or cut |
//!
//! Nodes are processes of the release binary with their defaults; except for the last two, this process is the origin.
//! Compared figures come from the same run, in turns. Other work of the machine shows in the figures.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

mod api;
mod ask;
mod echo;
mod faults;
mod growth;
mod large;
mod load;
mod made;
mod map;
mod node;
mod overload;
mod purges;
mod relay;
mod speed;
mod stampede;

use std::future::Future;
use std::pin::Pin;

type Topic = fn() -> Pin<Box<dyn Future<Output = ()>>>;

const TOPICS: [(&str, Topic); 12] = [
    ("speed", || Box::pin(speed::speed())),
    ("connections", || Box::pin(growth::connections())),
    ("peers", || Box::pin(growth::peers())),
    ("members", || Box::pin(growth::members())),
    ("entries", || Box::pin(growth::entries())),
    ("large", || Box::pin(large::large())),
    ("api", || Box::pin(api::api())),
    ("purges", || Box::pin(purges::storm())),
    ("stampede", || Box::pin(stampede::all())),
    ("overload", || Box::pin(overload::all())),
    ("faults", || Box::pin(faults::nodes())),
    ("spoilt", || Box::pin(faults::replies())),
];

fn main() {
    node::allow_many_descriptors();
    // cargo bench passes its own flags to every benchmark.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [echo::WORD] => return echo::serve(),
        [map::WORD, entries, size] => {
            return map::serve(entries.parse().expect("a number"), size.parse().expect("a number"));
        }
        _ => {}
    }
    for word in &wanted {
        assert!(TOPICS.iter().any(|(name, _)| name == word), "there is no figure {word:?}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (name, topic) in TOPICS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            println!("\n{name}");
            runtime.block_on(topic());
        }
    }
}
