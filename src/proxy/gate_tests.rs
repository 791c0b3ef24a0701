//! The gate under answers, failures and probes.

use std::time::Duration;

use super::cache::Millis;
use super::gate::{Flip, Gate, Pass};
use crate::wire::Key;

const USUAL: Option<Pass> = Some(Pass::Usual);
const PROBE: Option<Pass> = Some(Pass::Probe);
const TRIAL: Option<Pass> = Some(Pass::Trial);
const BEHIND: Option<Pass> = Some(Pass::Behind);

/// Probed after a second.
fn gate() -> Gate {
    Gate::new(Duration::from_secs(1))
}

fn key(path: &str) -> Key<'_> {
    Key::parse(path).unwrap()
}

fn fails(gate: &mut Gate, path: &str, now: u64) -> Option<Flip> {
    gate.failed(key(path), Pass::Usual, Millis(now), "late")
}

fn answers(gate: &mut Gate, path: &str, now: u64) -> Option<Flip> {
    gate.answered(&key(path).to_owned(), Millis(now))
}

fn admit(gate: &mut Gate, path: &str, now: u64) -> Option<Pass> {
    let admission = gate.admit(key(path), Millis(now), false);
    assert_eq!(admission.probe, None);
    admission.pass
}

fn probe_fails(gate: &mut Gate, now: u64) {
    gate.failed(key("a/1"), Pass::Probe, Millis(now), "late");
    gate.give_back(Pass::Probe);
}

/// A gate that closed at the time 3, before an origin that has never answered.
fn closed() -> Gate {
    let mut gate = gate();
    assert_eq!((fails(&mut gate, "a/1", 1), fails(&mut gate, "a/2", 2)), (None, None));
    assert_eq!(fails(&mut gate, "a/3", 3), Some(Flip::Failing));
    gate
}

#[test]
fn asks_a_failing_origin_ever_more_seldom() {
    let mut gate = closed();
    assert_eq!(admit(&mut gate, "a/4", 4), None);
    let mut asked = Vec::new();
    for now in (0..100_000).step_by(10) {
        if admit(&mut gate, "a/4", now).is_some() {
            asked.push(now);
            probe_fails(&mut gate, now);
        }
    }
    let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [2000, 4000, 8000, 16_000, 30_000, 30_000], "{asked:?}");
    assert_eq!(answers(&mut gate, "a/4", 100_000), Some(Flip::Well));
    assert_eq!(admit(&mut gate, "a/1", 100_000), USUAL);
}

#[test]
fn with_something_stale_to_serve_a_key_that_failed_waits() {
    let mut gate = gate();
    fails(&mut gate, "a/1", 0);
    assert_eq!(gate.admit(key("a/1"), Millis(1), true).pass, None);
    assert_eq!(gate.admit(key("a/2"), Millis(1), true).pass, USUAL, "another key is not its fault");
    assert_eq!(admit(&mut gate, "a/1", 1), USUAL, "nothing stale, and one failure is below the limit");
    assert_eq!(gate.admit(key("a/1"), Millis(1_000), true).pass, USUAL);
}

#[test]
fn many_that_fail_together_lengthen_no_pause() {
    let mut gate = gate();
    for path in ["a/1", "a/2", "a/3", "a/4"].repeat(16) {
        fails(&mut gate, path, 10);
    }
    assert_eq!(admit(&mut gate, "a/9", 1009), None);
    assert_eq!(admit(&mut gate, "a/9", 1010), PROBE, "the first pause is not longer for that");
    assert_eq!(answers(&mut gate, "a/9", 1010), Some(Flip::Well));
    gate.give_back(Pass::Probe);
    assert_eq!(admit(&mut gate, "a/1", 1011), USUAL);
}

#[test]
fn a_failure_has_a_time() {
    let mut gate = gate();
    fails(&mut gate, "a/1", 1);
    fails(&mut gate, "a/2", 2);
    assert!(!gate.is_failing_since(Millis(0)), "two failures are below the limit");
    fails(&mut gate, "a/3", 3);
    assert!(gate.is_failing_since(Millis(3)) && !gate.is_failing_since(Millis(4)));
    answers(&mut gate, "a/4", 4);
    assert!(!gate.is_failing_since(Millis(0)));
    assert!(gate.has_answered_since(Millis(3)) && !gate.has_answered_since(Millis(4)));
}

#[test]
fn one_probe_at_a_time() {
    let mut gate = closed();
    assert_eq!(admit(&mut gate, "a/4", 1003), PROBE);
    assert_eq!(admit(&mut gate, "a/5", 2999), BEHIND, "the verdict is not there yet");
    fails(&mut gate, "a/6", 2999);
    probe_fails(&mut gate, 3000);
    assert_eq!(admit(&mut gate, "a/5", 4999), None, "the pause follows its failure");
    assert_eq!(admit(&mut gate, "a/5", 5000), PROBE);
    assert_eq!(admit(&mut gate, "a/6", 5000), None, "a probe has failed before");
    gate.give_back(Pass::Probe);
    assert_eq!(admit(&mut gate, "a/5", 5001), PROBE, "the probe before was never sent");
}

#[test]
fn a_key_that_fails_three_times_is_not_its_source() {
    let mut gate = gate();
    for now in 0..3 {
        fails(&mut gate, "a/1", now);
    }
    assert!(gate.is_failing());
    assert_eq!(admit(&mut gate, "a/1", 4), None);
    assert_eq!(admit(&mut gate, "a/2", 4), TRIAL, "one key proves little of another");
    assert_eq!(admit(&mut gate, "a/3", 4), BEHIND, "and the next waits for that");
    answers(&mut gate, "a/2", 5);
    gate.give_back(Pass::Trial);
    assert_eq!(admit(&mut gate, "a/3", 5), USUAL);
}

#[test]
fn a_kind_that_fails_is_not_its_source_but_eight_keys_are() {
    let mut gate = closed();
    for path in ["b/1", "c/1", "d/1", "e/1", "f/1"] {
        assert_eq!(admit(&mut gate, path, 5), TRIAL, "{path}");
        gate.failed(key(path), Pass::Trial, Millis(5), "late");
        gate.give_back(Pass::Trial);
    }
    assert_eq!(admit(&mut gate, "g/1", 6), None);
}

#[test]
fn a_key_that_was_answered_is_the_first_probe_and_due_at_once() {
    let mut gate = gate();
    answers(&mut gate, "good/1", 0);
    for path in ["slow/1", "slow/2", "slow/3"] {
        fails(&mut gate, path, 10);
    }
    let admission = gate.admit(key("slow/4"), Millis(10), false);
    assert_eq!((admission.pass, admission.probe), (BEHIND, Some(key("good/1").to_owned())));
    assert_eq!(admit(&mut gate, "good/2", 11), BEHIND);
    answers(&mut gate, "good/1", 12);
    gate.give_back(Pass::Probe);
    assert_eq!(admit(&mut gate, "slow/4", 12), USUAL);
}

#[test]
fn a_refused_connection_is_new_until_the_next_answer() {
    let (mut gate, new) = (gate(), Duration::from_secs(1));
    assert!(gate.refused(Millis(100), new) && gate.refused(Millis(1_099), new));
    assert!(!gate.refused(Millis(1_100), new) && !gate.refused(Millis(9_000), new));
    answers(&mut gate, "a/1", 9_001);
    assert!(gate.refused(Millis(9_002), new));
}

#[test]
fn a_slow_key_is_no_probe_of_a_source_that_answered_another() {
    let mut gate = gate();
    answers(&mut gate, "good/1", 0);
    for path in ["a/1", "a/2", "a/3"] {
        fails(&mut gate, path, 10);
    }
    let admission = gate.admit(key("slow/1"), Millis(10), false);
    assert_eq!((admission.pass, admission.probe), (BEHIND, Some(key("good/1").to_owned())));
    gate.failed(key("good/1"), Pass::Probe, Millis(20), "late");
    gate.give_back(Pass::Probe);
    for now in [21, 500, 1_500] {
        assert_eq!(admit(&mut gate, "slow/1", now), if now == 21 { TRIAL } else { None });
        gate.failed(key("slow/1"), Pass::Trial, Millis(now), "late");
        gate.give_back(Pass::Trial);
    }
    let admission = gate.admit(key("a/1"), Millis(2_020), false);
    assert_eq!(admission.probe, Some(key("good/1").to_owned()), "the pause has not grown");
    assert_eq!(admission.pass, BEHIND, "it brought the probe about, and waits for it");
    assert_eq!(admit(&mut gate, "a/2", 2_021), None, "others do not: the last probe failed");
}

/// A gate before an origin that answered `k/1`, with the failures of these keys since.
fn closed_after_an_answer(failed: &[&str]) -> Gate {
    let mut gate = gate();
    answers(&mut gate, "k/1", 0);
    for path in failed {
        fails(&mut gate, path, 1);
    }
    gate
}

/// What the gate admits when the known key, which it wants as the probe, is being fetched.
fn admit_instead(gate: &mut Gate, path: &str) -> Option<Pass> {
    let admission = gate.admit(key(path), Millis(2), false);
    assert_eq!(admission.probe, Some(key("k/1").to_owned()), "{path}");
    let instead = gate.instead_of_probe(key(path), false);
    if instead.is_none() {
        gate.give_back(Pass::Probe);
    }
    instead
}

#[test]
fn while_the_known_key_is_fetched_other_keys_are_tried() {
    let mut gate = closed_after_an_answer(&["bad/1", "bad/2", "bad/3"]);
    assert_eq!(admit_instead(&mut gate, "bad/1"), None, "it has failed");
    for path in ["good/1", "bad/4"] {
        assert_eq!(admit_instead(&mut gate, path), TRIAL, "{path}");
        assert_eq!(admit_instead(&mut gate, "good/2"), BEHIND, "one at a time");
        gate.failed(key(path), Pass::Trial, Millis(2), "late");
        gate.give_back(Pass::Trial);
    }
    assert_eq!(admit_instead(&mut gate, "good/3"), TRIAL);
    answers(&mut gate, "good/3", 3);
    gate.give_back(Pass::Trial);
    assert_eq!(admit(&mut gate, "bad/1", 3), USUAL);
}

#[test]
fn with_many_keys_that_failed_the_next_one_is_the_probe_while_the_known_key_is_fetched() {
    let mut gate = closed_after_an_answer(&["a/1", "b/1", "c/1", "d/1", "e/1", "f/1", "g/1", "h/1"]);
    assert_eq!(admit_instead(&mut gate, "i/1"), PROBE);
    assert_eq!(admit(&mut gate, "j/1", 2), BEHIND);
    gate.failed(key("i/1"), Pass::Probe, Millis(2), "late");
    gate.give_back(Pass::Probe);
    assert_eq!(admit(&mut gate, "j/1", 3), None, "the pause has begun");
}

#[test]
fn an_origin_that_asks_for_a_pause_gets_one_and_then_a_probe() {
    let mut gate = gate();
    answers(&mut gate, "a/1", 0);
    assert_eq!(gate.close(Millis(1), Duration::from_secs(5), "busy"), Some(Flip::Failing));
    // An answer to a request from before is no reason to go on.
    assert_eq!(answers(&mut gate, "a/2", 2), None);
    for now in [2, 5_000] {
        assert!(gate.is_closed(Millis(now)));
        assert_eq!(admit(&mut gate, "cold/1", now), None);
    }
    let after = gate.admit(key("cold/1"), Millis(5_001), false);
    assert_eq!((after.pass, after.probe.is_some()), (BEHIND, true), "one goes first");
    // It asks again, and for longer than anybody waits.
    assert_eq!(gate.close(Millis(5_002), Duration::from_secs(86_400), "busy"), None);
    gate.give_back(Pass::Probe);
    assert_eq!((admit(&mut gate, "a/9", 65_001), gate.is_closed(Millis(65_002))), (None, false));
    assert!(gate.admit(key("a/9"), Millis(65_002), true).probe.is_some());
    assert_eq!(answers(&mut gate, "a/1", 65_003), Some(Flip::Well));
    assert_eq!(admit(&mut gate, "cold/1", 65_003), USUAL);
}

#[test]
fn an_origin_that_answers_no_key_with_a_document_is_failing() {
    let mut gate = gate();
    let doubted = |gate: &mut Gate, path: &str, pass, now| gate.doubted(key(path), pass, Millis(now), "500");
    answers(&mut gate, "k/1", 0);
    // The same broken key proves nothing, however often it is asked for; nor do others beside one that is answered.
    for now in 1..50 {
        assert_eq!(doubted(&mut gate, "a/1", Pass::Usual, now), None);
    }
    for (i, path) in ["a/2", "a/3", "b/1", "b/2", "c/1", "c/2", "c/3"].into_iter().enumerate() {
        let flip = (i == 6).then_some(Flip::Failing);
        assert_eq!(doubted(&mut gate, path, Pass::Usual, 50), flip, "{path}");
        if i == 5 {
            answers(&mut gate, "k/1", 50);
            for again in ["a/1", "a/2", "a/3", "b/1", "b/2", "c/1", "c/2"] {
                assert_eq!(doubted(&mut gate, again, Pass::Usual, 51), None);
            }
        }
    }
    // The key that had a document is asked first, and one that has none now is no comfort.
    let admission = gate.admit(key("d/1"), Millis(52), false);
    assert_eq!((admission.pass, admission.probe), (BEHIND, Some(key("k/1").to_owned())));
    assert_eq!(doubted(&mut gate, "k/1", Pass::Probe, 52), None);
    gate.give_back(Pass::Probe);
    assert!(gate.is_failing());
    assert_eq!(answers(&mut gate, "k/1", 3_000), Some(Flip::Well));
}
