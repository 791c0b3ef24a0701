//! An origin that fails, slows down and recovers on command, and assertions about a proxy in front of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::ask::parse;
use super::fake::{Fault, Hello};
use super::{Address, Fake, Node, ask, pause};

/// An origin with numbered editions of its documents, faults on command, and a count of concurrent requests.
pub(crate) struct Moody {
    pub(crate) fake: Fake,
    mood: Arc<Mood>,
}

#[derive(Default)]
struct Mood {
    /// `None`: replies are sound.
    fault: Mutex<Option<Fault>>,
    slowness: Mutex<Duration>,
    edition: AtomicUsize,
    asking: AtomicUsize,
    most: AtomicUsize,
}

impl Moody {
    pub(crate) fn start() -> Self {
        Self::start_on(Address::loopback(0))
    }

    pub(crate) fn start_on(address: Address) -> Self {
        let mood = Arc::new(Mood::default());
        let state = mood.clone();
        let fake = Fake::start_on(address, Hello::Refused, move |asked| {
            let asking = state.asking.fetch_add(1, Ordering::SeqCst) + 1;
            state.most.fetch_max(asking, Ordering::SeqCst);
            let slowness = *state.slowness.lock().expect("the slowness");
            pause(slowness);
            let fault = *state.fault.lock().expect("the fault");
            let line = format!("{{\"status\":\"OK\",\"data\":{}}}", state.edition.load(Ordering::SeqCst));
            let leave = || state.asking.fetch_sub(1, Ordering::SeqCst);
            // Counted down before the reply, after which the next request may come.
            match fault {
                None => {
                    leave();
                    asked.reply(&line);
                }
                Some(Fault::Silent) => {
                    asked.wait_for_close();
                    leave();
                }
                Some(fault) => {
                    leave();
                    fault.strike(asked);
                }
            }
        });
        Self { fake, mood }
    }

    pub(crate) fn fails(&self, fault: Fault) {
        *self.mood.fault.lock().expect("the fault") = Some(fault);
    }

    pub(crate) fn recovers(&self) {
        *self.mood.fault.lock().expect("the fault") = None;
    }

    pub(crate) fn slows(&self, slowness: Duration) {
        *self.mood.slowness.lock().expect("the slowness") = slowness;
    }

    pub(crate) fn publish(&self, edition: usize) {
        self.mood.edition.store(edition, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> usize {
        self.fake.requests().len()
    }

    /// Concurrent requests now.
    pub(crate) fn asking(&self) -> usize {
        self.mood.asking.load(Ordering::SeqCst)
    }

    /// The most concurrent requests since the last call.
    pub(crate) fn most_at_once(&self) -> usize {
        self.mood.most.swap(0, Ordering::SeqCst)
    }
}

pub(crate) fn explain(proxy: &Node, path: &str) -> Value {
    parse(&ask(proxy.address, &format!("EXPLAIN {path}")))["data"].take()
}

pub(crate) fn is_stale(proxy: &Node, path: &str) -> bool {
    explain(proxy, path)["state"] == "stale"
}

/// The reply must be an old edition from the cache, marked as stale.
pub(crate) fn assert_stale(reply: &Value, edition: usize) {
    let told = (&reply["status"], &reply["data"], &reply["cache_hit"], &reply["stale"]);
    assert_eq!(told, (&json!("OK"), &json!(edition), &json!(true), &json!(true)), "{reply}");
    assert!(reply["age"].is_u64(), "{reply}");
}
