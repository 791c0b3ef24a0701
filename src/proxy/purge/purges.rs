//! The marks of purges, shared by the threads of a proxy.

use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::super::cache::{Entry, Stamp};
use super::marks::{Kind, Mark, Marks};
use crate::lock::lock;
use crate::stats::Counter;

/// The marks, and the one walk that frees what they purged.
pub(in super::super) struct Purges {
    newest: Newest,
    /// Entries that purges removed or made stale.
    pub(in super::super) purged: Arc<Counter>,
    state: Mutex<State>,
    /// The number of the last whole walk.
    walked: watch::Sender<Stamp>,
}

/// The number of the newest mark, for every hit: in a cache line that only purges write.
#[repr(align(128))]
#[derive(Default)]
struct Newest(AtomicU32);

#[derive(Default)]
struct State {
    /// Replaced as a whole when a mark is added while somebody checks entries: nobody checks under the lock.
    marks: Arc<Marks>,
    is_walking: bool,
}

/// The turn to walk. It ends when nothing is left to do, or with its task: then the next purge begins another.
pub(super) struct Turn<'a> {
    purges: &'a Purges,
    is_over: bool,
}

impl Purges {
    pub(in super::super) fn new() -> Self {
        let (state, walked) = (State::default(), watch::Sender::new(Stamp::default()));
        let purged = state.marks.purged().clone();
        Self { newest: Newest::default(), purged, state: Mutex::new(state), walked }
    }

    /// Whether an entry of the cache may be shown to a request that comes now.
    pub(in super::super) fn shows(&self, entry: &Entry) -> bool {
        // Acquire: whoever has read the reply to a purge sees its number.
        entry.stamp().bits() == self.newest.0.load(Acquire) || self.check(entry)
    }

    #[cold]
    fn check(&self, entry: &Entry) -> bool {
        self.marks().check(entry)
    }

    /// Stamps an entry that enters the cache. Only while no mark can be added, and none of its key was since its fetch began
    /// or it was checked.
    pub(in super::super) fn stamp(&self, entry: &Entry) {
        let (stamp, newest) = (entry.stamp(), Stamp::from_bits(self.newest.0.load(Acquire)));
        // Fails only if another thread checks an entry that was in the cache before: then that has done it.
        entry.restamp(stamp, stamp.at(newest));
    }

    /// Prefixes whose memory is not freed yet.
    pub(in super::super) fn waiting(&self) -> usize {
        lock(&self.state).marks.len()
    }

    pub(super) fn marks(&self) -> Arc<Marks> {
        lock(&self.state).marks.clone()
    }

    /// Marks a prefix: from now on no entry from before is shown. `None` when too many are marked.
    pub(super) fn add(&self, prefix: &str, kind: Kind) -> Option<Mark> {
        let mut state = lock(&self.state);
        let mark = Arc::make_mut(&mut state.marks).add(prefix, kind)?;
        self.newest.0.store(mark.number.bits(), Release);
        Some(mark)
    }

    /// The turn to walk, unless a walk is under way or has nothing to do.
    pub(super) fn begin_walk(&self) -> Option<Turn<'_>> {
        let mut state = lock(&self.state);
        if state.is_walking || state.marks.is_empty() {
            return None;
        }
        state.is_walking = true;
        Some(Turn { purges: self, is_over: false })
    }

    /// Every entry was checked against these marks.
    pub(super) fn end_round(&self, marks: &Marks) {
        Arc::make_mut(&mut lock(&self.state).marks).forget(marks.newest());
        self.walked.send_replace(marks.newest());
    }

    /// Waits until a walk has checked all entries against a mark.
    pub(super) async fn walked(&self, mark: &Mark) {
        let mut walked = self.walked.subscribe();
        // Fails only without a sender, which is here.
        let _ = walked.wait_for(|walked| !walked.is_before(mark.number)).await;
    }
}

impl Turn<'_> {
    /// The marks of the next walk: all that wait by now. `None`, and the turn is over, when none do.
    pub(super) fn round(&mut self) -> Option<Arc<Marks>> {
        let mut state = lock(&self.purges.state);
        if state.marks.is_empty() {
            // Under the lock under which marks are added: none is left without a walk.
            state.is_walking = false;
            self.is_over = true;
            return None;
        }
        Some(state.marks.clone())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.purges.state).is_walking = false;
        }
    }
}
