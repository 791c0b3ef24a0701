//! Fetches while the gate is closed.

use super::*;
use crate::net::{Link, LinkLimits};
use crate::source::{Known, LinkSource};

const LATER: Millis = Millis(10_000);

/// An origin that has failed, and a key of it.
fn failing(at_once: usize) -> (Upstream, KeyBuf) {
    let link = Link::new("127.0.0.1:9".parse().unwrap(), LinkLimits::default());
    let source = Box::new(LinkSource::new(link, MAX_DOCUMENT));
    let upstream = Upstream::new(source, FetchLimits { at_once, ..FetchLimits::default() });
    let key = KeyBuf::parse("a/1").unwrap();
    for _ in 0..3 {
        upstream.learn(&key, &failed(Fault::Source, "closed"), Pass::Usual, Millis(0));
    }
    (upstream, key)
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_not_sent_is_given_back() {
    // No fetch gets a turn.
    let (upstream, key) = failing(0);
    let admit = || upstream.admit(key.as_key(), LATER, false).permit;
    let probe = admit().unwrap();
    assert!(admit().is_none_or(|permit| permit.pass != Pass::Probe), "one at a time");
    let (fetched, _) = upstream.fetch(probe, &key, || LATER, || true, None).await;
    assert!(matches!(fetched, Fetched::Failed(Failure { fault: Fault::Ours, .. })));
    assert!(admit().is_some_and(|permit| permit.pass == Pass::Probe), "the next one probes at once");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_probe_goes_on_after_any_answer() {
    let (upstream, key) = failing(1);
    let _probe = upstream.admit(key.as_key(), LATER, false).permit.unwrap();
    let wait = upstream.probe_was_answered(Instant::now() + Duration::from_secs(2));
    let answer = async { upstream.learn(&key, &Fetched::Missing(Known::default()), Pass::Usual, LATER) };
    assert!(tokio::join!(biased; wait, answer).0, "while the probe is under way");
}
