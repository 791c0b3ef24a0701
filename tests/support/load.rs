//! Clients that send GETs until they are stopped, and count replies, slow replies and failures.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::ask::{Address, status_of, try_ask};
use super::http::Http;
use super::session::Session;
use super::{pause, timed, until};

/// Concurrent clients.
const CLIENTS: u64 = 6;
/// The most requests of a client, in case the test fails to stop it.
const MOST: u64 = 40_000;
/// A longer reply counts as slow.
const SLOW: Duration = Duration::from_secs(1);

/// A running load: GETs of `article/1` to `article/<documents>`.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

/// The counts of all clients.
#[derive(Default)]
pub(crate) struct Tally {
    asked: AtomicU64,
    slow: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Every request on its own connection.
    pub(crate) fn plain(to: Address, documents: u64) -> Self {
        Self::start(documents, move |path| try_ask(to, &format!("GET {path}")))
    }

    /// Every client on its own session.
    pub(crate) fn sessions(to: Address, documents: u64) -> Self {
        let sessions = Mutex::new((0..CLIENTS).map(|_| Session::open(to)).collect::<Vec<_>>());
        Self::start(documents, move |path| {
            let mut session = sessions.lock().expect("the sessions").pop().ok_or("no session is left")?;
            let reply = session.ask(7, &format!("GET {path}"));
            sessions.lock().expect("the sessions").push(session);
            Ok(reply)
        })
    }

    /// Over HTTP, each client on a kept connection until a `connection: close` in a request or response.
    pub(crate) fn http(to: Address, documents: u64, headers: &'static [&'static str]) -> Self {
        let kept = Mutex::new(Vec::new());
        Self::start(documents, move |path| {
            let taken = kept.lock().expect("the connections").pop();
            let mut http = taken.unwrap_or_else(|| Http::connect(to));
            let response = http.ask("GET", &format!("/{path}"), headers, "");
            if response.header("connection") != "close" {
                kept.lock().expect("the connections").push(http);
            }
            match response.code {
                200 => Ok(format!("{{\"status\":\"OK\",\"data\":{}}}", response.text())),
                code => Err(format!("{code}: {}", response.text())),
            }
        })
    }

    fn start(documents: u64, get: impl Fn(&str) -> Result<String, String> + Send + Sync + 'static) -> Self {
        let (stop, tally, get) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default(), Arc::new(get));
        let clients = (0..CLIENTS).map(|client| {
            let (stop, tally, get) = (stop.clone(), tally.clone(), get.clone());
            thread::spawn(move || {
                for i in 0..MOST {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = format!("article/{}", (client + i) % documents + 1);
                    tally.note(timed(|| get(&path)));
                    // Leaves the machine to the nodes and to the other tests.
                    pause(Duration::from_millis(1));
                }
            })
        });
        let clients = clients.collect();
        Self { stop, tally, clients }
    }

    /// Requests with a result so far.
    pub(crate) fn asked(&self) -> u64 {
        self.tally.asked.load(Ordering::Relaxed)
    }

    /// Waits for this number of further results.
    pub(crate) fn go_on(&self, requests: u64) {
        let goal = self.asked() + requests;
        until("the load has gone on", || self.asked() >= goal);
    }

    /// Stops the clients; every reply must have been OK. Returns the counts of requests and of slow replies.
    pub(crate) fn end_without_errors(mut self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client of the load panicked");
        }
        let failures = self.tally.failures.lock().expect("the failures");
        let (asked, slow) = (self.asked(), self.tally.slow.load(Ordering::Relaxed));
        assert!(
            failures.is_empty(),
            "{} of {asked} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        (asked, slow)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Tally {
    fn note(&self, (took, reply): (Duration, Result<String, String>)) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.slow.fetch_add(u64::from(took > SLOW), Ordering::Relaxed);
        let failure = match reply {
            Ok(line) if status_of(&line) == "OK" => return,
            Ok(line) | Err(line) => line,
        };
        self.failures.lock().expect("the failures").push(failure);
    }
}
