//! Replies that wait for their readers, at all connections of a process together.
//!
//! Each connection bounds its own part, but there may be ten thousand of them, and asking costs less than reading. Once half
//! of what is allowed waits, sessions are read one request at a time, and who has taken nothing for a while is cut, whoever
//! stands still for longest first. Once all of it does, whoever asks for more than a little is told OVERLOADED. What a socket
//! takes at once is not counted: who reads notices nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use crate::lock::lock;

/// When room is short, who has taken nothing for so long has to go.
const STANDS_STILL: Duration = Duration::from_millis(500);
/// So many bytes are always answered: a socket takes them at once, unless its reader has more waiting.
pub(crate) const LITTLE: usize = 16 * 1024;
/// What an asker is told for whose reply there is no room.
pub(crate) const TOO_MUCH: &str = "too many bytes wait to be read; try again later";

/// All that waits.
#[derive(Debug)]
pub struct Unread {
    most: usize,
    /// Written under the lock, read without.
    bytes: AtomicUsize,
    line: Mutex<Line>,
}

/// Those who are waited for, the one that has taken nothing for longest first.
#[derive(Default, Debug)]
struct Line {
    next: u64,
    places: BTreeMap<u64, Place>,
    /// Whether it was logged that room is short.
    told: bool,
}

/// One of them.
#[derive(Debug)]
struct Place {
    bytes: usize,
    /// When it took something last.
    since: Instant,
    task: Waker,
}

/// The reader of one connection; nothing waits for it any more once it is dropped.
pub(crate) struct Reader<'a> {
    unread: &'a Unread,
    place: Option<u64>,
}

impl Unread {
    /// The bytes that may wait unless it is configured otherwise.
    pub const DEFAULT_LIMIT: usize = 256 << 20;

    /// About `most` bytes may wait.
    pub fn new(most: usize) -> Self {
        Self { most, bytes: AtomicUsize::new(0), line: Mutex::default() }
    }

    /// A reader that has taken everything so far.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { unread: self, place: None }
    }

    /// Whether it is better to ask for little at a time.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.bytes.load(Relaxed) > self.most / 2
    }

    /// Whether there is no room for a reply of this size, behind what waits for the same reader.
    pub(crate) fn has_no_room_for(&self, size: usize, now: Instant) -> bool {
        size >= LITTLE && self.is_full(now)
    }

    fn is_full(&self, now: Instant) -> bool {
        if self.bytes.load(Relaxed) < self.most {
            return false;
        }
        self.make_room(&mut self.line(), now);
        self.bytes.load(Relaxed) >= self.most
    }

    /// Cuts those who stand still, until room is no longer short.
    fn make_room(&self, line: &mut Line, now: Instant) {
        while self.is_short_of_room() {
            if !std::mem::replace(&mut line.told, true) {
                warn!("many replies are not read; who reads nothing is cut to make room (--max-unread)");
            }
            let Some(first) = line.places.first_entry() else { return };
            if now.saturating_duration_since(first.get().since) < STANDS_STILL {
                return;
            }
            let Place { bytes, task, .. } = first.remove();
            debug!(bytes, "a connection whose replies are not read is cut");
            self.bytes.fetch_sub(bytes, Relaxed);
            task.wake();
        }
        line.told &= self.bytes.load(Relaxed) > self.most / 4;
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.line)
    }
}

impl Reader<'_> {
    /// So many bytes wait for it, and it has taken nothing `since`. Fails when it was cut to make room for others.
    pub(crate) fn is_waited_for(
        &mut self,
        cx: &Context<'_>,
        bytes: usize,
        since: Instant,
        now: Instant,
    ) -> io::Result<()> {
        let unread = self.unread;
        let mut line = unread.line();
        if let Some(at) = self.place {
            let Some(place) = line.places.get_mut(&at) else { return Err(io::ErrorKind::TimedOut.into()) };
            unread.bytes.fetch_sub(place.bytes, Relaxed);
            if place.since == since {
                (place.bytes, place.task) = (bytes, cx.waker().clone());
            } else {
                line.places.remove(&at);
                self.place = None;
            }
        }
        if self.place.is_none() {
            let at = line.next;
            line.next += 1;
            line.places.insert(at, Place { bytes, since, task: cx.waker().clone() });
            self.place = Some(at);
        }
        unread.bytes.fetch_add(bytes, Relaxed);
        unread.make_room(&mut line, now);
        Ok(())
    }

    /// It has taken everything.
    pub(crate) fn is_done(&mut self) {
        let Some(at) = self.place.take() else { return };
        if let Some(place) = self.unread.line().places.remove(&at) {
            self.unread.bytes.fetch_sub(place.bytes, Relaxed);
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.is_done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn wait(reader: &mut Reader<'_>, bytes: usize, since: Instant, now: Instant) -> bool {
        reader.is_waited_for(&Context::from_waker(Waker::noop()), bytes, since, now).is_ok()
    }

    #[test]
    fn who_stands_still_goes_when_room_is_short() {
        let unread = Unread::new(10 * MIB);
        let [mut still, mut slow, mut late] = [(); 3].map(|()| unread.reader());
        let begun = Instant::now();
        let then = begun + 2 * STANDS_STILL;
        assert!(wait(&mut still, 3 * MIB, begun, begun) && wait(&mut slow, 2 * MIB, begun, begun));
        assert!(wait(&mut slow, MIB, then, then), "there is room enough");
        assert!(wait(&mut still, 3 * MIB, begun, then), "so nobody is cut");
        assert!(wait(&mut late, 2 * MIB, then, then), "this one makes it short");
        assert!(!wait(&mut still, 3 * MIB, begun, then), "of the one that took nothing");
        assert!(wait(&mut slow, MIB, then, then) && wait(&mut late, 2 * MIB, then, then));
        drop((still, slow, late));
        assert_eq!(unread.bytes.load(Relaxed), 0);
        assert!(unread.line().places.is_empty());
    }

    #[test]
    fn while_all_are_reading_it_is_the_next_one_that_has_to_wait() {
        let unread = Unread::new(10 * MIB);
        let begun = Instant::now();
        let mut readers: Vec<Reader<'_>> = (0..10).map(|_| unread.reader()).collect();
        for reader in &mut readers {
            assert!(!unread.has_no_room_for(MIB, begun) && wait(reader, MIB, begun, begun));
        }
        assert!(unread.has_no_room_for(MIB, begun));
        assert!(!unread.has_no_room_for(LITTLE - 1, begun), "a little is always answered");
        assert!(readers.iter_mut().all(|reader| wait(reader, MIB, begun, begun)), "nobody is cut");
        readers.pop();
        assert!(!unread.has_no_room_for(MIB, begun));
        assert!(wait(&mut readers[0], MIB, begun, begun + STANDS_STILL), "room is made by then");
        assert_eq!(unread.line().places.len(), 5);
    }
}
