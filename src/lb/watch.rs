//! Timers that nearly always are given up before they fire: one wheel per core instead of a timer per request.
//!
//! A request that is not answered at once puts its waker into a slot of the wheel; its answer takes it out again. Both are
//! a few moves of memory. A task turns the wheel while there is something in it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::lock::lock;

/// Slots of a millisecond. What is due later is looked at when the wheel has turned once, and put in again.
const SLOTS: usize = 64;
/// How far ahead the task sleeps: what is put in meanwhile may fire so late.
const NAP: u64 = 4;
/// So many turns with nothing in it end the task.
const IDLE_TURNS: u32 = 64;

/// The wakers of one core.
pub(super) struct Wheel {
    began: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    slots: Vec<Vec<Armed>>,
    places: Vec<Place>,
    free: Vec<usize>,
    /// The millisecond up to which it has turned.
    turned: u64,
    is_turning: bool,
    armed: usize,
}

/// Room for one waker.
#[derive(Default)]
struct Place {
    /// How often it was taken and given back.
    generation: u64,
    waker: Option<Waker>,
}

/// The right to a place, until that is given back.
#[derive(Clone, Copy)]
struct Armed {
    place: usize,
    generation: u64,
}

/// Says when something takes long.
pub(super) struct Watch {
    wheel: Arc<Wheel>,
    due: Instant,
    armed: Option<Armed>,
}

impl Wheel {
    pub(super) fn new() -> Arc<Self> {
        let inner = Inner { slots: vec![Vec::new(); SLOTS], ..Inner::default() };
        Arc::new(Self { began: Instant::now(), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_millis() as u64
    }

    fn arm(self: &Arc<Self>, due: Instant, waker: Waker) -> Armed {
        let mut inner = self.lock();
        if !inner.is_turning {
            inner.is_turning = true;
            inner.turned = self.ms(Instant::now());
            tokio::spawn(Turning(self.clone()).run());
        }
        let last = inner.turned + SLOTS as u64 - 1;
        let due = (self.ms(due) + 1).clamp(inner.turned + 1, last);
        let place = inner.free.pop().unwrap_or_else(|| {
            inner.places.push(Place::default());
            inner.places.len() - 1
        });
        let taken = &mut inner.places[place];
        taken.generation += 1;
        taken.waker = Some(waker);
        let armed = Armed { place, generation: taken.generation };
        inner.slots[due as usize % SLOTS].push(armed);
        inner.armed += 1;
        armed
    }

    fn disarm(&self, armed: &Armed) {
        let mut inner = self.lock();
        // Its entry in the slot stays until the wheel comes by; the generation tells that it means nobody.
        let place = &mut inner.places[armed.place];
        if place.generation == armed.generation {
            let waker = place.waker.take();
            place.generation += 1;
            inner.free.push(armed.place);
            inner.armed -= 1;
            drop(inner);
            drop(waker);
        }
    }
}

/// The task that turns a wheel: however it ends, whoever is armed by then is woken, and begins another by arming again.
struct Turning(Arc<Wheel>);

impl Drop for Turning {
    fn drop(&mut self) {
        let wakers: Vec<Waker> = {
            let mut inner = self.0.lock();
            inner.is_turning = false;
            inner.places.iter_mut().filter_map(|place| place.waker.take()).collect()
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

    /// The wakers that are due, and how far off the next slot that holds some is; `None` when nothing is armed.
    fn turn(&self) -> (Vec<Waker>, Option<u64>) {
        let mut wakers = Vec::new();
        let now = self.0.ms(Instant::now());
        let mut inner = self.0.lock();
        let inner = &mut *inner;
        let from = inner.turned.max(now.saturating_sub(SLOTS as u64 - 1));
        for at in from..=now {
            for armed in inner.slots[at as usize % SLOTS].drain(..) {
                let place = &mut inner.places[armed.place];
                if place.generation == armed.generation {
                    wakers.extend(place.waker.take());
                }
            }
        }
        inner.turned = now;
        let next = (1..SLOTS as u64).find(|ahead| !inner.slots[(now + ahead) as usize % SLOTS].is_empty());
        (wakers, (inner.armed > 0).then(|| next.unwrap_or(NAP)))
    }
}

impl Watch {
    pub(super) fn new(wheel: Arc<Wheel>, due: Instant) -> Self {
        Self { wheel, due, armed: None }
    }

    /// Says again that it takes long when so much more time has passed.
    pub(super) fn again(&mut self, after: Duration) {
        self.disarm();
        self.due = Instant::now() + after;
    }

    /// Ready when it is due. Due things may be told a few milliseconds late, and once only.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What is armed may have been woken for another reason, or long before it is due.
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

impl Drop for Watch {
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

    /// What the future brings; `None` when it takes long.
    async fn race<T>(watch: &mut Watch, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => watch.poll_due(cx).map(|()| None),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn says_that_it_takes_long_and_goes_on() {
        let wheel = Wheel::new();
        let began = Instant::now();
        let mut work = pin!(sleep(Duration::from_millis(500)));
        let mut watch = Watch::new(wheel.clone(), began + Duration::from_millis(3));
        assert!(race(&mut watch, work.as_mut()).await.is_none());
        let took = began.elapsed().as_millis();
        assert!((3..=3 + 2 * u128::from(NAP)).contains(&took), "{took}");
        watch.again(Duration::from_millis(200));
        assert!(race(&mut watch, work.as_mut()).await.is_none(), "past one turn of the wheel");
        assert!(began.elapsed() >= Duration::from_millis(203));
        watch.again(Duration::from_secs(1));
        assert!(race(&mut watch, work.as_mut()).await.is_some());
        drop(watch);
        assert_eq!(wheel.lock().armed, 0);
        sleep(Duration::from_secs(2)).await;
        assert!(!wheel.lock().is_turning, "it rests");
        let mut watch = Watch::new(wheel, Instant::now() + Duration::from_millis(10));
        assert!(race(&mut watch, std::future::pending::<()>()).await.is_none(), "and turns again");
    }

    #[test]
    fn a_wheel_whose_runtime_ends_wakes_who_waits() {
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
        let mut watch = Watch::new(Wheel::new(), Instant::now() + Duration::from_secs(60));
        assert!(watch.poll_due(&mut Context::from_waker(&waker)).is_pending());
        drop(entered);
        drop(runtime);
        assert!(woken.0.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_leaves_nothing_behind() {
        let wheel = Wheel::new();
        for _ in 0..1000 {
            let mut watch = Watch::new(wheel.clone(), Instant::now() + Duration::from_millis(50));
            assert!(race(&mut watch, tokio::task::yield_now()).await.is_some());
        }
        let inner = wheel.lock();
        assert_eq!((inner.armed, inner.free.len()), (0, inner.places.len()));
        assert!(inner.places.len() <= 1);
    }
}
