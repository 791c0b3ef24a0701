//! Timers that are nearly always given up before they fire: one wheel per core instead of a timer per request.
//!
//! A request that is not answered at once puts its waker into a slot of the wheel, and its answer takes the waker out again.
//! Both are a few moves of memory. A task turns the wheel while it holds wakers.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::lock::lock;

/// The number of slots, a millisecond each. A timer that is due later is looked at after one round and put in again.
const SLOTS: usize = 64;
/// The longest sleep of the task in milliseconds: a timer that is put in meanwhile may fire late by this.
const NAP: u64 = 4;
/// The task ends after this many turns without a waker.
const IDLE_TURNS: u32 = 64;

/// The timers of one core.
pub(super) struct Wheel {
    began: Instant,
    timers: Mutex<Timers>,
}

#[derive(Default)]
struct Timers {
    slots: Vec<Vec<Armed>>,
    places: Vec<Place>,
    /// The places without a waker, to be used again.
    free: Vec<usize>,
    /// The millisecond up to which the wheel has turned.
    turned: u64,
    is_turning: bool,
    armed: usize,
}

/// Room for one waker.
#[derive(Default)]
struct Place {
    /// Changes whenever the place is taken or given back.
    generation: u64,
    waker: Option<Waker>,
}

/// The right to a place until it is given back. Void when the generation has changed.
#[derive(Clone, Copy)]
struct Armed {
    place: usize,
    generation: u64,
}

/// A timer: says when a request takes long.
pub(super) struct Due {
    wheel: Arc<Wheel>,
    due: Instant,
    armed: Option<Armed>,
}

impl Wheel {
    pub(super) fn new() -> Arc<Self> {
        let timers = Timers { slots: vec![Vec::new(); SLOTS], ..Timers::default() };
        Arc::new(Self { began: Instant::now(), timers: Mutex::new(timers) })
    }

    fn lock(&self) -> MutexGuard<'_, Timers> {
        lock(&self.timers)
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_millis() as u64
    }

    fn arm(self: &Arc<Self>, due: Instant, waker: Waker) -> Armed {
        let mut timers = self.lock();
        if !timers.is_turning {
            timers.is_turning = true;
            timers.turned = self.ms(Instant::now());
            tokio::spawn(Turning(self.clone()).run());
        }
        let last = timers.turned + SLOTS as u64 - 1;
        let due = (self.ms(due) + 1).clamp(timers.turned + 1, last);
        let place = timers.free.pop().unwrap_or_else(|| {
            timers.places.push(Place::default());
            timers.places.len() - 1
        });
        let taken = &mut timers.places[place];
        taken.generation += 1;
        taken.waker = Some(waker);
        let armed = Armed { place, generation: taken.generation };
        timers.slots[due as usize % SLOTS].push(armed);
        timers.armed += 1;
        armed
    }

    fn disarm(&self, armed: &Armed) {
        let mut timers = self.lock();
        // Its entry in the slot stays until the wheel comes by; by the generation it is then known to be void.
        let place = &mut timers.places[armed.place];
        if place.generation == armed.generation {
            let waker = place.waker.take();
            place.generation += 1;
            timers.free.push(armed.place);
            timers.armed -= 1;
            drop(timers);
            drop(waker);
        }
    }
}

/// The task that turns a wheel. However it ends, it wakes all that are armed; those arm again and so begin another task.
struct Turning(Arc<Wheel>);

impl Drop for Turning {
    fn drop(&mut self) {
        let wakers: Vec<Waker> = {
            let mut timers = self.0.lock();
            timers.is_turning = false;
            timers.places.iter_mut().filter_map(|place| place.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Turning {
    async fn run(self) {
        let mut idle = 0;
        let mut nap = 1;
        while idle < IDLE_TURNS {
            sleep(Duration::from_millis(nap)).await;
            let (wakers, next) = self.turn();
            idle = if next.is_some() { 0 } else { idle + 1 };
            nap = next.unwrap_or(NAP).min(NAP);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// The wakers that are due, and the milliseconds until the next slot with an entry; `None` when nothing is armed.
    fn turn(&self) -> (Vec<Waker>, Option<u64>) {
        let mut wakers = Vec::new();
        let now = self.0.ms(Instant::now());
        let mut timers = self.0.lock();
        let timers = &mut *timers;
        let from = timers.turned.max(now.saturating_sub(SLOTS as u64 - 1));
        for at in from..=now {
            for armed in timers.slots[at as usize % SLOTS].drain(..) {
                let place = &mut timers.places[armed.place];
                if place.generation == armed.generation {
                    wakers.extend(place.waker.take());
                }
            }
        }
        timers.turned = now;
        let next = (1..SLOTS as u64).find(|ahead| !timers.slots[(now + ahead) as usize % SLOTS].is_empty());
        (wakers, (timers.armed > 0).then(|| next.unwrap_or(NAP)))
    }
}

impl Due {
    pub(super) fn new(wheel: Arc<Wheel>, due: Instant) -> Self {
        Self { wheel, due, armed: None }
    }

    /// Sets the timer anew: due after this time from now.
    pub(super) fn again(&mut self, after: Duration) {
        self.disarm();
        self.due = Instant::now() + after;
    }

    /// Ready when it is due, up to some milliseconds late, and once only.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // The task may have been woken for another reason, or by a slot that stands for a later round.
        let is_due = self.armed.is_some() && Instant::now() >= self.due;
        self.disarm();
        if is_due {
            return Poll::Ready(());
        }
        self.armed = Some(self.wheel.arm(self.due, cx.waker().clone()));
        Poll::Pending
    }

    fn disarm(&mut self) {
        if let Some(armed) = self.armed.take() {
            self.wheel.disarm(&armed);
        }
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.disarm();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    /// The output of the future; `None` when it takes long.
    async fn race<T>(due: &mut Due, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => due.poll_due(cx).map(|()| None),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn says_that_it_takes_long_and_goes_on() {
        let wheel = Wheel::new();
        let began = Instant::now();
        let mut work = pin!(sleep(Duration::from_millis(500)));
        let mut due = Due::new(wheel.clone(), began + Duration::from_millis(3));
        assert!(race(&mut due, work.as_mut()).await.is_none());
        let took = began.elapsed().as_millis();
        assert!((3..=3 + 2 * u128::from(NAP)).contains(&took), "{took}");
        due.again(Duration::from_millis(200));
        assert!(race(&mut due, work.as_mut()).await.is_none(), "past one turn of the wheel");
        assert!(began.elapsed() >= Duration::from_millis(203));
        due.again(Duration::from_secs(1));
        assert!(race(&mut due, work.as_mut()).await.is_some());
        drop(due);
        assert_eq!(wheel.lock().armed, 0);
        sleep(Duration::from_secs(2)).await;
        assert!(!wheel.lock().is_turning, "it rests");
        let mut due = Due::new(wheel, Instant::now() + Duration::from_millis(10));
        assert!(race(&mut due, std::future::pending::<()>()).await.is_none(), "and turns again");
    }

    #[test]
    fn a_wheel_whose_runtime_ends_wakes_all_that_wait() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let entered = runtime.enter();
        let mut due = Due::new(Wheel::new(), Instant::now() + Duration::from_secs(60));
        assert!(due.poll_due(&mut Context::from_waker(&waker)).is_pending());
        drop(entered);
        drop(runtime);
        assert!(woken.0.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_leaves_nothing_behind() {
        let wheel = Wheel::new();
        for _ in 0..1000 {
            let mut due = Due::new(wheel.clone(), Instant::now() + Duration::from_millis(50));
            assert!(race(&mut due, tokio::task::yield_now()).await.is_some());
        }
        let timers = wheel.lock();
        assert_eq!((timers.armed, timers.free.len()), (0, timers.places.len()));
        assert!(timers.places.len() <= 1);
    }
}
