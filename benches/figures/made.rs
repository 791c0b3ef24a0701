//! An origin of generated documents: one per key, constant, after a delay.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dproxy::cores;
use dproxy::handler::{Answer, Ask, Handler};
use dproxy::net::transport::bind;
use dproxy::net::{Server, ServerLimits};
use dproxy::stats::Counter;
use dproxy::wire::{Document, Reply, Request, Status};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A document of this size.
pub(crate) fn document(id: u64, size: usize) -> String {
    let around = format!("{{\"id\":{id},\"body\":\"\"}}").len();
    format!("{{\"id\":{id},\"body\":\"{}\"}}", "x".repeat(size - around))
}

/// Its settings.
pub(crate) struct Made {
    /// Bytes of a document.
    pub(crate) size: usize,
    /// The delay of a document.
    pub(crate) work: Duration,
    /// Concurrent requests; others wait.
    pub(crate) at_once: usize,
}

/// The running origin on its own thread. It ends on drop.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    role: Arc<Role>,
    _stop: DropGuard,
}

struct Role {
    made: Made,
    room: Semaphore,
    asked: Counter,
}

impl Made {
    /// Documents of this size, without delay.
    pub(crate) fn of(size: usize) -> Self {
        Self { size, work: Duration::ZERO, at_once: Semaphore::MAX_PERMITS }
    }

    pub(crate) fn start(self) -> Origin {
        let room = Semaphore::new(self.at_once);
        let role = Arc::new(Role { made: self, room, asked: Counter::default() });
        let stop = CancellationToken::new();
        let server = Server::new(role.clone(), ServerLimits::default(), stop.clone());
        let bound = bind((Ipv4Addr::LOCALHOST, 0).into(), 1, false).expect("a port").remove(0);
        let address = bound.address().expect("its address");
        std::thread::spawn(move || {
            let runtime = cores::runtime().expect("a runtime");
            runtime.block_on(async { server.serve(bound.listen().expect("a listener")).await });
        });
        Origin { address, role, _stop: stop.drop_guard() }
    }
}

impl Origin {
    /// The number of GETs so far.
    pub(crate) fn asked(&self) -> u64 {
        self.role.asked.get()
    }
}

impl Handler for Role {
    fn answer(self: &Arc<Self>, ask: Ask<'_>) -> Answer {
        let Request::Get(key) = ask.request else {
            return Answer::Now(Reply::text(Status::WrongMethod, "it answers GET"));
        };
        self.asked.add_one();
        let id = key.name().parse().unwrap_or_default();
        let document = document(id, self.made.size);
        let reply =
            Reply::document(Document::parse(document.as_bytes(), self.made.size).expect("a document"));
        if self.made.work.is_zero() {
            return Answer::Now(reply);
        }
        let role = self.clone();
        Answer::later(async move {
            let _place = role.room.acquire().await;
            sleep(role.made.work).await;
            reply
        })
    }
}
