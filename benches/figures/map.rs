//! The cost of memory alone: the server of a proxy in front of a constant `HashMap`, without order, time, count or lock.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use dproxy::cores;
use dproxy::handler::{Answer, Ask, Handler};
use dproxy::net::transport::bind;
use dproxy::net::{Server, ServerLimits};
use dproxy::wire::{Document, Reply, Request, Status};
use tokio_util::sync::CancellationToken;

/// The first argument that makes this program such a server; the second is the number of documents.
pub(crate) const WORD: &str = "serve-a-map";

const CORES: usize = 2;

struct Map(HashMap<String, Document>);

impl Handler for Map {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        let document = match ask.request {
            Request::Get(key) => self.0.get(key.as_str()),
            _ => None,
        };
        Answer::Now(match document {
            Some(document) => Reply::document(document.clone()),
            None => Reply::text(Status::NotFound, "it has no more"),
        })
    }
}

/// Prints its address as a node does, and serves `article/1` and so on until it is killed.
pub(crate) fn serve(entries: u64, size: usize) {
    let document =
        |id| Document::parse(super::made::document(id, size).as_bytes(), 1 << 20).expect("a document");
    let map = (1..=entries).map(|id| (format!("article/{id}"), document(id))).collect();
    let server = Server::new(Arc::new(Map(map)), ServerLimits::default(), CancellationToken::new());
    let bound = bind((Ipv4Addr::LOCALHOST, 0).into(), CORES, false).expect("a port");
    println!("listens on {}", bound[0].address().expect("its address"));
    let serving = bound.into_iter().map(|bound| {
        let server = server.clone();
        std::thread::spawn(move || {
            let runtime = cores::runtime().expect("a runtime");
            runtime.block_on(async { server.serve(bound.listen().expect("a listener")).await })
        })
    });
    for thread in serving.collect::<Vec<_>>() {
        thread.join().expect("a thread that serves");
    }
}
