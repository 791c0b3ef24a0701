//! The places of fetches before a source in simulated time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::turns::Turns;

const MS: Duration = Duration::from_millis(1);
const TIME: Duration = Duration::from_secs(2);

/// A source of some workers, and the places of a proxy in front of it.
struct Source {
    turns: Arc<Turns>,
    workers: Arc<Semaphore>,
}

/// How a fetch ended, and after what time.
#[derive(Debug)]
struct Ended {
    kind: u64,
    served: bool,
    after: Duration,
}

impl Source {
    fn new(workers: usize) -> Self {
        Self { turns: Turns::new(64, TIME), workers: Arc::new(Semaphore::new(workers)) }
    }

    /// A fetch that the source works on for that time; a request waits for it or has gone.
    fn fetch(&self, kind: u64, works: Duration, is_awaited: bool) -> impl Future<Output = Ended> + use<> {
        let (turns, workers) = (self.turns.clone(), self.workers.clone());
        async move {
            let begun = Instant::now();
            let deadline = begun + TIME;
            let served = async {
                let mut turn = turns.take(kind, false, deadline, move || is_awaited).await.ok()?;
                let asked = Instant::now();
                let work = async {
                    let _worker = workers.acquire().await;
                    sleep(works).await;
                };
                let until = turns.answer_by(deadline, asked);
                let answered = tokio::select! {
                    answered = timeout_at(until, work) => answered.is_ok(),
                    () = turn.lost() => false,
                };
                match answered {
                    true => turns.answered(kind, asked.elapsed()),
                    false => turns.was_late(kind),
                }
                answered.then_some(())
            };
            let served = served.await.is_some();
            Ended { kind, served, after: begun.elapsed() }
        }
    }

    async fn all(&self, fetches: usize, works: Duration) -> Vec<Ended> {
        let mut all = JoinSet::new();
        (0..fetches).for_each(|_| drop(all.spawn(self.fetch(1, works, true))));
        all.join_all().await
    }
}

fn served(ended: &[Ended]) -> usize {
    ended.iter().filter(|ended| ended.served).count()
}

#[tokio::test(start_paused = true)]
async fn after_one_slow_fetch_a_thousand_fast_ones_are_all_served() {
    let source = Source::new(64);
    assert!(source.fetch(1, 200 * MS, true).await.served);
    assert_eq!(served(&source.all(1_000, 20 * MS).await), 1_000);
}

#[tokio::test(start_paused = true)]
async fn as_many_are_served_as_the_deadline_allows_and_the_others_refused() {
    let source = Source::new(64);
    // The first time nothing is known of the pace, the second time all is.
    for (known, latest) in [(false, 250 * MS), (true, MS)] {
        let ended = source.all(2_000, 200 * MS).await;
        assert!((608..=650).contains(&served(&ended)), "{} of 640", served(&ended));
        let late = ended.iter().filter(|ended| ended.after > TIME + 100 * MS).count();
        assert_eq!(late, 0);
        let waited = ended.iter().filter(|ended| !ended.served && ended.after > latest).count();
        assert!(waited <= 128, "{waited} waited in vain though the pace was known: {known}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_works_on_few_at_a_time_is_kept_busy_and_nothing_waits_that_will_be_late() {
    // 16 workers, 100 ms each: 160 a second, of which 300 a second are asked for ten seconds.
    let source = Source::new(16);
    let mut all = JoinSet::new();
    for _ in 0..3_000 {
        all.spawn(source.fetch(1, 100 * MS, true));
        sleep(Duration::from_micros(3_333)).await;
    }
    let ended = all.join_all().await;
    assert!(served(&ended) >= 160 * 10 * 9 / 10, "{}", served(&ended));
    let in_vain = ended.iter().filter(|ended| !ended.served && ended.after > TIME / 2).count();
    assert!(in_vain <= 200, "{in_vain} of {} waited in vain", ended.len());
}

#[tokio::test(start_paused = true)]
async fn a_slow_kind_takes_no_places_from_others() {
    for (a_second, is_awaited) in [(20, false), (60, false), (60, true), (400, true)] {
        let source = Source::new(10_000);
        let mut all = JoinSet::new();
        for at in 0..(5 * a_second) {
            all.spawn(source.fetch(1, 3_000 * MS, is_awaited));
            if at % 4 == 0 {
                all.spawn(source.fetch(2, MS, true));
            }
            sleep(Duration::from_secs(1) / a_second).await;
        }
        let ended = all.join_all().await;
        let failed = ended.iter().filter(|ended| ended.kind == 2 && !ended.served).count();
        assert_eq!(failed, 0, "beside {a_second} slow ones a second");
        let worst = ended.iter().filter(|ended| ended.kind == 2).map(|ended| ended.after).max();
        assert!(a_second > 60 || worst < Some(500 * MS), "{worst:?} beside {a_second} slow ones a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_a_slow_kind_leaves_the_queue_once_its_kind_is_late() {
    let source = Source::new(10_000);
    assert!(source.fetch(2, MS, true).await.served, "the pace is known");
    let mut all = JoinSet::new();
    (0..10_000).for_each(|_| drop(all.spawn(source.fetch(1, 3_000 * MS, false))));
    sleep(10 * MS).await;
    for _ in 0..100 {
        let other = source.fetch(2, MS, true).await;
        assert!(other.served && other.after < TIME / 2, "{other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_not_taken_is_the_next_ones() {
    let turns = Turns::new(1, TIME);
    let take = || turns.take(1, false, Instant::now() + TIME, || true);
    let first = take().await.unwrap();
    let mut gone = Box::pin(take());
    assert!(tokio::time::timeout(MS, &mut gone).await.is_err());
    let next = tokio::spawn(turns.clone().take_owned());
    drop((gone, first));
    assert!(next.await.unwrap());
}

impl Turns {
    async fn take_owned(self: Arc<Self>) -> bool {
        self.take(1, false, Instant::now() + TIME, || true).await.is_ok()
    }
}
