//! Whose turn it is to fetch: a limited number at once, the others wait in order. Refused is what would be late, and what is of a kind that was.
//!
//! ```text
//!   take ──a place is free──────────────▶ Turn ──dropped──▶ the next one's turn
//!     ├────its turn comes in time──▶ queue ──▶ Turn
//!     └────it would be late, or its kind is late──▶ refused
//! ```
//! Slow is a matter of a key first. Fetches that are past the usual pace leave a quarter of the places to others: when all
//! places are taken, those for which no request waits any more lose theirs first. Keys of a kind (the first segment) that
//! was late several times in a row share an eighth of the places.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::pace::Pace;
use crate::lock::lock;

/// The share of the places that is kept from fetches past the usual pace: one of this many.
const QUICK: usize = 4;
/// The share of the places for kinds that are late: one of this many.
const SLOW: usize = 8;
/// A kind is late after this many late answers in a row.
const LATE_FROM: u32 = 3;
/// Kinds whose late answers are remembered.
const KINDS: usize = 256;
/// A fetch is past the usual pace after this many times the usual time, and after an eighth of the deadline.
const PAST: u32 = 4;

/// Why there is no turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Its turn would come too late.
    TooMany,
    /// Keys of its kind were late, and have their share of the places.
    SlowKind,
}

/// The places of fetches, and the queue for them.
pub(super) struct Turns {
    at_once: usize,
    /// The time for a fetch, its wait included; one whose turn came in time may take an eighth longer.
    time: Duration,
    state: Mutex<State>,
}

struct State {
    pace: Pace,
    running: Vec<Running>,
    waiting: VecDeque<Waiting>,
    /// Late answers in a row, by the hash of the kind.
    late: HashMap<u64, u32>,
    next_id: u64,
}

struct Running {
    id: u64,
    since: Instant,
    is_slow_kind: bool,
    /// Takes the place away. `None` once that was done.
    end: Option<oneshot::Sender<()>>,
    is_awaited: Awaited,
}

struct Waiting {
    /// `None` for a probe, which has a turn whatever its kind.
    kind: Option<u64>,
    deadline: Instant,
    turn: oneshot::Sender<Result<Turn, Refusal>>,
    is_awaited: Awaited,
}

/// Whether a request waits for the fetch.
type Awaited = Box<dyn Fn() -> bool + Send>;

/// A place. Dropped, it is the next one's.
pub(super) struct Turn {
    turns: Arc<Turns>,
    id: u64,
    ended: oneshot::Receiver<()>,
}

impl Turn {
    /// Waits until the place is needed for others.
    pub(super) async fn lost(&mut self) {
        // The sender lives as long as this place, or has sent.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.end(self.id);
    }
}

impl Turns {
    /// At most `at_once`, each within `time` from when it began to wait.
    pub(super) fn new(at_once: usize, time: Duration) -> Arc<Self> {
        let state = State {
            pace: Pace::new(at_once),
            running: Vec::new(),
            waiting: VecDeque::new(),
            late: HashMap::new(),
            next_id: 0,
        };
        Arc::new(Self { at_once, time, state: Mutex::new(state) })
    }

    /// Waits for a turn. `is_probe`: it is to find out whether the source is well, whatever its kind.
    pub(super) async fn take(
        self: &Arc<Self>,
        kind: u64,
        is_probe: bool,
        deadline: Instant,
        is_awaited: impl Fn() -> bool + Send + 'static,
    ) -> Result<Turn, Refusal> {
        let (kind, is_awaited) = ((!is_probe).then_some(kind), Box::new(is_awaited));
        let mut receiver = {
            let (mut state, now) = (self.state(), Instant::now());
            let is_slow_kind = state.is_late(kind);
            if is_slow_kind && !self.has_room_for_slow(&state) {
                return Err(Refusal::SlowKind);
            }
            if state.running.len() < self.at_once {
                return Ok(self.begin(&mut state, now, is_slow_kind, is_awaited));
            }
            let rounds = (state.waiting.len() as f64) / self.places(&state, now) as f64;
            if self.is_hopeless(&state, rounds, deadline, now) {
                return Err(Refusal::TooMany);
            }
            let (turn, receiver) = oneshot::channel();
            state.waiting.push_back(Waiting { kind, deadline, turn, is_awaited });
            receiver
        };
        loop {
            let now = Instant::now();
            self.make_room(&mut self.state(), now);
            let step = deadline.min(now + self.time / 16);
            match timeout_at(step, &mut receiver).await {
                Ok(turn) => return turn.unwrap_or(Err(Refusal::TooMany)),
                Err(_) if self.is_too_late_to_begin(&self.state(), deadline, Instant::now()) => {
                    return Err(Refusal::TooMany);
                }
                Err(_) => {}
            }
        }
    }

    /// A fetch of this kind was answered in this time.
    pub(super) fn answered(&self, kind: u64, took: Duration) {
        let (mut state, now) = (self.state(), Instant::now());
        state.pace.note(took, now);
        state.late.remove(&kind);
    }

    /// A fetch of this kind had no answer in time.
    pub(super) fn was_late(&self, kind: u64) {
        let late = &mut self.state().late;
        if late.len() >= KINDS && !late.contains_key(&kind) {
            late.clear();
        }
        *late.entry(kind).or_default() += 1;
    }

    /// When a fetch that begins now has to be answered: by its deadline, but one whose turn came in time by the pace gets the
    /// time that others take, so that the source has not worked in vain.
    pub(super) fn answer_by(&self, deadline: Instant, now: Instant) -> Instant {
        match self.state().pace.recent(now) {
            Some(pace) => deadline.max(now + pace * 3 / 2).min(deadline + self.time / 8),
            None => deadline,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn has_room_for_slow(&self, state: &State) -> bool {
        let slow = state.running.iter().filter(|running| running.is_slow_kind).count();
        state.running.len() < self.at_once && slow < (self.at_once / SLOW).max(1)
    }

    fn begin(
        self: &Arc<Self>,
        state: &mut State,
        now: Instant,
        is_slow_kind: bool,
        is_awaited: Awaited,
    ) -> Turn {
        let (end, ended) = oneshot::channel();
        let id = state.next_id;
        state.next_id += 1;
        state.running.push(Running { id, since: now, is_slow_kind, end: Some(end), is_awaited });
        Turn { turns: self.clone(), id, ended }
    }

    /// Frees a place and gives it on.
    fn end(self: &Arc<Self>, id: u64) {
        let (mut state, now) = (self.state(), Instant::now());
        state.running.retain(|running| running.id != id);
        let mut handed_out = Vec::new();
        while state.running.len() < self.at_once
            && let Some(Waiting { kind, deadline, turn, is_awaited }) = state.waiting.pop_front()
        {
            if turn.is_closed() {
                continue;
            }
            // Its kind may have become late since it came here.
            let is_slow_kind = state.is_late(kind);
            let result = match self.is_too_late_to_begin(&state, deadline, now) {
                true => Err(Refusal::TooMany),
                false if is_slow_kind && !self.has_room_for_slow(&state) => Err(Refusal::SlowKind),
                false => Ok(self.begin(&mut state, now, is_slow_kind, is_awaited)),
            };
            handed_out.push((turn, result));
        }
        // Several places may become free at this moment, one by one: whole rounds count.
        while let Some(last) = state.waiting.back() {
            let rounds = (state.waiting.len() - 1) / self.places(&state, now);
            if !self.is_hopeless(&state, rounds as f64, last.deadline, now) {
                break;
            }
            if let Some(last) = state.waiting.pop_back() {
                handed_out.push((last.turn, Err(Refusal::TooMany)));
            }
        }
        // A turn that is not taken comes back here by its drop, so the lock must be free.
        drop(state);
        for (turn, result) in handed_out {
            let _ = turn.send(result);
        }
    }

    /// The places that change hands at the usual pace.
    fn places(&self, state: &State, now: Instant) -> usize {
        let past = state.past(self.past(state), now).count();
        self.at_once.saturating_sub(past).max(self.at_once / QUICK).max(1)
    }

    /// Whether a fetch whose turn comes after so many rounds of the others will be late.
    fn is_hopeless(&self, state: &State, rounds: f64, deadline: Instant, now: Instant) -> bool {
        let pace = state.pace.recent(now);
        pace.is_some_and(|pace| now + pace.mul_f64(rounds) + pace > deadline)
    }

    /// Whether it cannot be answered any more in the time that fetches take, give or take a half.
    fn is_too_late_to_begin(&self, state: &State, deadline: Instant, now: Instant) -> bool {
        let least = state.pace.recent(now).map_or(self.time / 4, |pace| (pace / 2).min(self.time / 4));
        now + least > deadline
    }

    /// The time after which a fetch is past the usual pace. Without an answer there is no pace yet.
    fn past(&self, state: &State) -> Duration {
        state.pace.usual().map_or(self.time, |usual| (usual * PAST).max(self.time / 8))
    }

    /// All places are taken: when fewer than a quarter are used at the usual pace, the others give some up.
    fn make_room(&self, state: &mut State, now: Instant) {
        let (past, wanted) = (self.past(state), state.waiting.len());
        let most = self.at_once - self.at_once / QUICK;
        let surplus = state.past(past, now).count().saturating_sub(most);
        for _ in 0..surplus.min(wanted) {
            // Those that nobody waits for, then the oldest: they are the likeliest to be late.
            let victim = state
                .running
                .iter_mut()
                .filter(|running| running.end.is_some() && now.duration_since(running.since) > past)
                .min_by_key(|running| ((running.is_awaited)(), running.since));
            if let Some(end) = victim.and_then(|running| running.end.take()) {
                let _ = end.send(());
            }
        }
    }
}

impl State {
    fn is_late(&self, kind: Option<u64>) -> bool {
        kind.and_then(|kind| self.late.get(&kind)).is_some_and(|&late| late >= LATE_FROM)
    }

    /// The running fetches that have taken longer than that.
    fn past(&self, time: Duration, now: Instant) -> impl Iterator<Item = &Running> {
        let is_past = move |since: Instant| now.duration_since(since) > time;
        self.running.iter().filter(move |running| running.end.is_some() && is_past(running.since))
    }
}
