//! The places of a server's open connections. When all are taken, the one that has been idle for longest makes room.
//!
//! A connection that never waits for its client is only counted. It gets a seat when it first waits, and notes there since
//! when it is idle: a store, no lock. The idlest are looked up for many newcomers at a time, so that a newcomer costs about
//! as much beside ten connections as beside ten thousand.
//!
//! Newcomers beyond the limit wait in a reserve for their first request, so that a connection without a request takes no
//! place from anybody, and health checks are answered there, however many clients there are.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::lock::lock;

/// Stands in for the time while a connection waits for us, and not for its client.
const BUSY: u64 = u64::MAX;
/// Stands in for the index of a seat that was given to a newcomer.
const GIVEN_AWAY: usize = usize::MAX;
/// The idlest connections are looked up for this part of all, and for at least [`FEW`].
const PART: usize = 16;
const FEW: usize = 16;
/// Places are scarce when fewer than this part of them is free.
const SCARCE: usize = 8;
/// When nobody is idle, the next look is that much later for each connection: about ten times what a look costs.
const NEXT_LOOK: Duration = Duration::from_micros(2);

/// At most `limit` places.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    /// How long a connection must have been idle to make room.
    grace: Duration,
    taken: AtomicUsize,
    began: Instant,
    seats: Mutex<Seats>,
}

/// The connections that have waited for their clients.
#[derive(Default, Debug)]
struct Seats {
    all: Vec<Arc<Seat>>,
    /// The idlest at the last look, the idlest of them last, with the times since when they were idle.
    idlest: Vec<(u64, Arc<Seat>)>,
    next_look: Option<Instant>,
}

#[derive(Debug)]
struct Seat {
    /// In microseconds since [`Places::began`], or [`BUSY`].
    idle_since: AtomicU64,
    /// Its index in [`Seats::all`]; written under the lock.
    at: AtomicUsize,
    task: Waker,
}

impl Seat {
    fn is_given_away(&self) -> bool {
        self.at.load(Relaxed) == GIVEN_AWAY
    }
}

/// One place; free again once it is dropped, unless a newcomer has it already.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    seat: OnceLock<Arc<Seat>>,
    is_left: AtomicBool,
}

/// A connection within the limits: with a place, or in the reserve until its first request.
#[derive(Debug)]
pub struct Admitted {
    first: Place,
    /// The places for those in the reserve.
    others: Option<Arc<Places>>,
    moved_to: OnceLock<Place>,
}

impl Admitted {
    /// With a place.
    pub(super) fn at(place: Place) -> Self {
        Self { first: place, others: None, moved_to: OnceLock::new() }
    }

    /// In the reserve, until it has one of the `others`.
    pub(super) fn in_reserve(place: Place, others: Arc<Places>) -> Self {
        Self { first: place, others: Some(others), moved_to: OnceLock::new() }
    }

    /// The place that it has now.
    pub(crate) fn place(&self) -> &Place {
        self.moved_to.get().unwrap_or(&self.first)
    }

    /// Whether it has no other place than that in the reserve.
    pub(crate) fn is_in_reserve(&self) -> bool {
        self.others.is_some() && self.moved_to.get().is_none()
    }

    /// Moves from the reserve to a place. False when all are taken and nobody is idle.
    pub(crate) fn has_place(&self) -> bool {
        let Some(others) = self.others.as_ref().filter(|_| self.is_in_reserve()) else { return true };
        let Some(place) = others.take() else { return false };
        if self.moved_to.set(place).is_ok() {
            self.first.leave();
        }
        true
    }

    /// Completes when the place that it has by then is given away; [`Place::note`] says when it may be. False if the
    /// connection has been used at that very moment: a request came as the place went.
    pub(crate) async fn given_away_idle(&self) -> bool {
        std::future::poll_fn(|cx| self.place().poll_given_away(cx)).await;
        // A request may have come that the runtime has not seen yet: it looks before the next turn.
        yield_now().await;
        self.place().is_idle()
    }
}

impl Places {
    /// A connection makes room once it has been idle for `grace`.
    pub(super) fn new(limit: usize, grace: Duration) -> Arc<Self> {
        let (taken, began, seats) = (AtomicUsize::new(0), Instant::now(), Mutex::default());
        Arc::new(Self { limit, grace, taken, began, seats })
    }

    /// The number of places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// A free place.
    pub(super) fn take_free(self: &Arc<Self>) -> Option<Place> {
        if self.taken.fetch_add(1, Relaxed) < self.limit {
            return Some(self.place());
        }
        self.taken.fetch_sub(1, Relaxed);
        None
    }

    /// A free place, or that of the connection that has been idle for longest; `None` when nobody is idle.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        self.take_free().or_else(|| self.make_room(Instant::now()).then(|| self.place()))
    }

    fn place(self: &Arc<Self>) -> Place {
        Place { places: self.clone(), seat: OnceLock::new(), is_left: AtomicBool::new(false) }
    }

    #[cfg(test)]
    pub(super) fn are_seated(&self, count: usize) -> bool {
        self.seats().all.len() == count
    }

    /// Takes the place of the idlest connection away from it, and tells it.
    fn make_room(&self, now: Instant) -> bool {
        let mut seats = self.seats();
        let is_free = seats.pop_idlest()
            || (seats.look(self.micros(now.checked_sub(self.grace)), now) && seats.pop_idlest());
        drop(seats);
        is_free
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        lock(&self.seats)
    }

    fn micros(&self, at: Option<Instant>) -> u64 {
        at.map_or(0, |at| at.saturating_duration_since(self.began).as_micros() as u64)
    }
}

impl Seats {
    /// Removes the idlest of those that were looked up and have stayed idle. False when there is none.
    fn pop_idlest(&mut self) -> bool {
        while let Some((since, seat)) = self.idlest.pop() {
            if seat.idle_since.load(Relaxed) == since && self.remove(&seat) {
                seat.at.store(GIVEN_AWAY, Relaxed);
                seat.task.wake_by_ref();
                return true;
            }
        }
        false
    }

    /// Looks up the connections that are idle since before `latest`. False when there is none, or the last look in vain was
    /// just now.
    fn look(&mut self, latest: u64, now: Instant) -> bool {
        if self.next_look.is_some_and(|next| now < next) {
            return false;
        }
        let idle = |seat: &Arc<Seat>| {
            let since = seat.idle_since.load(Relaxed);
            (since <= latest && since != BUSY).then(|| (since, seat.clone()))
        };
        let mut idle: Vec<(u64, Arc<Seat>)> = self.all.iter().filter_map(idle).collect();
        let few = (self.all.len() / PART).max(FEW);
        if idle.len() > few {
            idle.select_nth_unstable_by_key(few, |(since, _)| *since);
            idle.truncate(few);
        }
        idle.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        self.next_look = idle.is_empty().then(|| now + NEXT_LOOK * self.all.len() as u32);
        self.idlest = idle;
        !self.idlest.is_empty()
    }

    /// False when the seat was removed already.
    fn remove(&mut self, seat: &Arc<Seat>) -> bool {
        let at = seat.at.load(Relaxed);
        if self.all.get(at).is_none_or(|there| !Arc::ptr_eq(there, seat)) {
            return false;
        }
        self.all.swap_remove(at);
        if let Some(moved) = self.all.get(at) {
            moved.at.store(at, Relaxed);
        }
        true
    }
}

impl Place {
    /// Notes that the connection waits: for its client `since` that time, or for us. False when its place was given away.
    pub(crate) fn waits(&self, cx: &Context<'_>, since: Option<Instant>) -> bool {
        let idle_since = since.map_or(BUSY, |since| self.places.micros(Some(since)));
        let seat = match self.seat.get() {
            Some(seat) => seat,
            None if since.is_none() => return true,
            None => self.seat.get_or_init(|| self.sit(cx.waker().clone())),
        };
        seat.idle_since.store(idle_since, Relaxed);
        !seat.is_given_away()
    }

    /// Like [`Place::waits`], for a connection that has a seat.
    pub(crate) fn note(&self, since: Option<Instant>) {
        if let Some(seat) = self.seat.get() {
            let idle_since = since.map_or(BUSY, |since| self.places.micros(Some(since)));
            seat.idle_since.store(idle_since, Relaxed);
        }
    }

    /// Whether the place is given away, of which the task is told; [`Place::note`] says when it may be.
    fn poll_given_away(&self, cx: &Context<'_>) -> Poll<()> {
        let seat = self.seat.get_or_init(|| self.sit(cx.waker().clone()));
        if seat.is_given_away() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the place was given away.
    pub(crate) fn was_given_away(&self) -> bool {
        self.seat.get().is_some_and(|seat| seat.is_given_away())
    }

    /// Whether so few places are left that connections note to the moment since when they are idle.
    pub(crate) fn is_scarce(&self) -> bool {
        self.places.taken() >= self.places.limit - self.places.limit / SCARCE
    }

    /// Whether the connection was idle by its last note.
    pub(crate) fn is_idle(&self) -> bool {
        self.seat.get().is_some_and(|seat| seat.idle_since.load(Relaxed) != BUSY)
    }

    /// Completes a turn after the place was given away, while the connection waits for its client `since` that time.
    pub(crate) async fn given_away(&self, since: Instant) {
        std::future::poll_fn(|cx| match self.waits(cx, Some(since)) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
        // As in [`Admitted::given_away_idle`].
        yield_now().await;
    }

    fn sit(&self, task: Waker) -> Arc<Seat> {
        let mut seats = self.places.seats();
        let (idle_since, at) = (AtomicU64::new(BUSY), AtomicUsize::new(seats.all.len()));
        let seat = Arc::new(Seat { idle_since, at, task });
        seats.all.push(seat.clone());
        seat
    }
}

impl Place {
    fn leave(&self) {
        if self.is_left.swap(true, Relaxed) {
            return;
        }
        let is_ours = self.seat.get().is_none_or(|seat| self.places.seats().remove(seat));
        if is_ours {
            self.places.taken.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(100);

    fn waits(place: &Place, since: Option<Instant>) -> bool {
        place.waits(&Context::from_waker(Waker::noop()), since)
    }

    #[test]
    fn the_longest_idle_makes_room() {
        let places = Places::new(40, GRACE);
        let now = Instant::now();
        let idle = |millis| Some(now - Duration::from_millis(millis));
        // Times before the first moment count as that moment.
        let began = now - Duration::from_secs(60);
        let places = Arc::new(Places { began, ..Arc::into_inner(places).unwrap() });
        let taken: Vec<Place> = (0..40).map(|_| places.take().unwrap()).collect();
        assert!(taken.iter().all(|place| waits(place, idle(1_000))));
        assert!(waits(&taken[7], idle(3_000)) && waits(&taken[9], idle(2_000)) && waits(&taken[11], None));
        let first = places.take().unwrap();
        assert!(!waits(&taken[7], idle(3_000)), "it was idle for longest");
        assert!(waits(&taken[9], idle(10)), "it would have been next, and is not idle any more");
        let more: Vec<Place> = (0..37).map(|_| places.take().unwrap()).collect();
        assert!(places.take().is_none(), "one is busy, one was busy just now");
        assert!(waits(&taken[11], None) && waits(&taken[9], idle(10)));
        assert_eq!(places.taken(), 40);
        drop(taken);
        assert_eq!(places.taken(), 38, "those that were given away are not freed twice");
        drop((first, more));
        assert_eq!((places.taken(), places.seats().all.len()), (0, 0));
    }

    #[test]
    fn a_connection_of_the_reserve_takes_a_place_with_its_first_request() {
        let (places, reserve) = (Places::new(1, Duration::ZERO), Places::new(1, Duration::ZERO));
        let holder = Admitted::at(places.take().unwrap());
        let newcomer = Admitted::in_reserve(reserve.take().unwrap(), places.clone());
        assert!(holder.has_place() && !newcomer.has_place() && newcomer.is_in_reserve(), "nobody is idle");
        assert!(waits(holder.place(), Some(Instant::now())));
        assert!(newcomer.has_place() && !newcomer.is_in_reserve());
        assert!(!waits(holder.place(), Some(Instant::now())), "it made room");
        assert_eq!((places.taken(), reserve.taken()), (1, 0));
        drop((holder, newcomer));
        assert_eq!((places.taken(), reserve.taken()), (0, 0));
    }

    #[test]
    fn a_connection_that_never_waited_is_only_counted() {
        let places = Places::new(1, Duration::ZERO);
        let place = places.take().unwrap();
        assert!(waits(&place, None) && places.seats().all.is_empty());
        assert!(places.take().is_none());
        drop(place);
        assert!(places.take().is_some());
    }
}
