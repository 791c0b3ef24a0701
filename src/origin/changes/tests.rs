//! What watchers and those who tell of changes are answered.

use tokio::time::{advance, timeout};

use super::*;

const LEASE: Duration = Duration::from_secs(2);

fn watch(since: Option<Position>) -> Watch {
    Watch { since, wait: LEASE / 4, by: Some(1) }
}

async fn ask(changes: &Arc<Changes>, watch: Watch) -> Batch {
    let reply = changes.clone().watch(watch).await.to_line();
    serde_json::from_value(serde_json::from_str::<serde_json::Value>(&reply).unwrap()["data"].take()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_change_ends_the_wait_of_a_watch() {
    let changes = Changes::new(LEASE);
    changes.begin();
    let first = ask(&changes, watch(None)).await;
    assert!(first.reset && first.lease_ms == 2000 && first.position().seq == 0);
    let began = Instant::now();
    let waiting = tokio::spawn({
        let changes = changes.clone();
        async move { ask(&changes, watch(Some(first.position()))).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    changes.add(["a/1"]);
    tokio::time::sleep(Duration::from_millis(2)).await;
    changes.add(["a/2"]);
    let batch = waiting.await.unwrap();
    assert_eq!(
        (batch.changes, began.elapsed()),
        (vec!["a/1".to_owned(), "a/2".to_owned()], 105 * SECOND / 1000)
    );
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn without_a_change_the_lease_is_renewed_after_the_wait() {
    let changes = Changes::new(LEASE);
    changes.begin();
    let position = ask(&changes, watch(None)).await.position();
    let began = Instant::now();
    let batch = ask(&changes, watch(Some(position))).await;
    assert_eq!((batch.lease_ms, batch.reset, batch.changes.len()), (2000, false, 0));
    assert_eq!(began.elapsed(), LEASE / 4);
}

#[tokio::test(start_paused = true)]
async fn no_lease_is_granted_while_changes_may_escape_and_the_next_epoch_begins_with_a_reset() {
    let changes = Changes::new(LEASE);
    assert!(changes.clone().watch(watch(None)).await.to_line().contains("WRONG_METHOD"));
    changes.begin();
    let position = ask(&changes, watch(None)).await.position();
    changes.lose_track();
    let batch = ask(&changes, watch(Some(position))).await;
    assert_eq!((batch.lease_ms, batch.reset), (0, true));
    changes.begin();
    let batch = ask(&changes, watch(Some(position))).await;
    assert!(batch.reset && batch.lease_ms == 2000 && batch.position().epoch != position.epoch);
    let without_id = ask(&changes, Watch { by: None, ..watch(None) }).await;
    assert_eq!(without_id.lease_ms, 0, "whose lease cannot be waited for");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_all_waits_for_each_lease() {
    let changes = Changes::new(LEASE);
    changes.begin();
    let position = ask(&changes, watch(None)).await.position();
    ask(&changes, Watch { by: Some(2), ..watch(None) }).await;
    let told = tokio::spawn(changes.clone().told(vec!["a/1".to_owned()], true));
    tokio::task::yield_now().await;
    let batch = ask(&changes, watch(Some(position))).await;
    assert_eq!(batch.changes, ["a/1"]);
    assert!(timeout(Duration::from_millis(50), ask(&changes, watch(Some(batch.position())))).await.is_err());
    assert!(!told.is_finished(), "the other one has a lease");
    advance(LEASE * 11 / 10).await;
    let reply = told.await.unwrap().to_line();
    assert!(reply.contains(r#""seq":1,"acked":1,"lapsed":1"#), "{reply}");
    let at_once = changes.clone().told(vec!["a/2".to_owned()], false).await.to_line();
    assert!(at_once.contains(r#""seq":2"#) && at_once.contains(r#""lapsed":0"#), "{at_once}");
}

#[tokio::test]
async fn an_origin_that_tells_nobody_does_not_take_the_word_of_a_change() {
    let changes = Changes::new(LEASE);
    let reply = changes.clone().told(vec!["a/1".to_owned()], true).await.to_line();
    assert!(reply.contains("WRONG_METHOD") && reply.contains("--changes"), "{reply}");
    changes.begin();
    assert_eq!(changes.position().unwrap().seq, 0, "nothing was noted");
}

#[test]
fn resources_without_end_are_all_taken_to_be_held() {
    let changes = Changes::new(LEASE);
    let note = |i: usize| changes.note(Key::parse(&format!("r{i}/1")).unwrap());
    (0..RESOURCES).for_each(note);
    assert!(changes.may_be_held("r7") && !changes.may_be_held("other"));
    (RESOURCES..2 * RESOURCES).for_each(note);
    assert!(changes.may_be_held("other"));
    assert!(changes.resources.read().unwrap().len() <= RESOURCES + 1);
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_how_long_the_last_change_took_to_be_everywhere() {
    let changes = Changes::new(LEASE);
    changes.begin();
    let reach = || {
        let metrics = serde_json::to_value(changes.metrics()).unwrap();
        (metrics["told_seconds_ago"].as_f64(), metrics["everywhere_seconds"].as_f64())
    };
    assert_eq!(reach(), (None, None));
    changes.add(["a/0"]);
    assert_eq!(reach(), (Some(0.0), None), "there was nobody to tell");
    let others = |since| Watch { by: Some(2), wait: Duration::ZERO, ..watch(Some(since)) };
    let position = ask(&changes, watch(None)).await.position();
    ask(&changes, others(position)).await;
    let change = changes.add(["a/1"]);
    advance(SECOND / 10).await;
    ask(&changes, Watch { wait: Duration::ZERO, ..watch(Some(change)) }).await;
    assert_eq!(reach(), (Some(0.1), None), "one has not heard of it");
    advance(SECOND / 10).await;
    ask(&changes, others(change)).await;
    assert_eq!(reach(), (Some(0.2), Some(0.2)));
    // One that is gone does not count once its lease is over.
    let change = changes.add(["a/2"]);
    advance(LEASE * 12 / 10).await;
    ask(&changes, others(change)).await;
    assert_eq!(reach(), (Some(2.4), Some(2.4)));
}
