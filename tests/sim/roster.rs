//! Which proxies each balancer has: the file that lists them for it, and what it was told to drain.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dproxy::lb::Lb;

use crate::cluster::{BALANCERS, PORT, proxy};
use crate::world::{RECOVERY, now};

/// What is written into the file is followed within this.
pub(crate) const NOTICE: Duration = Duration::from_secs(2);
/// A copy that tries a node comes to it within this, even on a link that holds it for a while.
const TRIAL: Duration = Duration::from_secs(8);

/// A proxy, as a balancer has it.
#[derive(Clone, Default)]
struct Seat {
    /// Whether it is told to drain, or may be.
    drained: bool,
    listed: bool,
    /// From when on it gets no request, for sure.
    away: Option<Duration>,
    /// When any of this was changed last.
    changed: Option<Duration>,
}

/// What one balancer has.
#[derive(Default)]
struct Seats {
    proxies: Vec<Seat>,
    /// Whether proxies may have left since it was started, and have taken their counts with them.
    has_changed: bool,
    lb: Weak<Lb>,
}

/// What all balancers have.
pub(crate) struct Roster {
    folder: PathBuf,
    /// No two lists are the same text: that it was written again shall not depend on the clock of the real files.
    written: AtomicU64,
    seats: Mutex<Vec<Seats>>,
}

impl Roster {
    /// Every balancer has all proxies.
    pub(crate) fn new(proxies: usize) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dproxy-sim-{}-{run}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the lists");
        let seat = Seat { listed: true, ..Seat::default() };
        let seats = || Seats { proxies: vec![seat.clone(); proxies], ..Seats::default() };
        let seats = Mutex::new((0..BALANCERS).map(|_| seats()).collect());
        let roster = Self { folder, written: AtomicU64::new(0), seats };
        for balancer in 0..BALANCERS {
            roster.write(
                balancer,
                &(0..proxies).map(|index| format!("{}:{PORT}", proxy(index))).collect::<Vec<_>>(),
            );
        }
        roster
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seats>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list of a balancer.
    pub(crate) fn file(&self, balancer: usize) -> PathBuf {
        self.folder.join(balancer.to_string())
    }

    /// Writes lines into it, good ones or bad.
    pub(crate) fn write(&self, balancer: usize, lines: &[String]) {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let text = format!("# {number}\n{}\n", lines.join("\n"));
        std::fs::write(self.file(balancer), text).expect("a list is written");
    }

    /// It runs, with what its file says.
    pub(crate) fn started(&self, balancer: usize, lb: Weak<Lb>) {
        self.lock()[balancer].lb = lb;
    }

    /// Has it look at its file at once.
    pub(crate) fn reload(&self, balancer: usize) {
        let lb = self.lock()[balancer].lb.upgrade();
        if let Some(lb) = lb {
            lb.reload();
        }
    }

    /// It has died. What it was told it has forgotten; its file is there.
    pub(crate) fn died(&self, balancer: usize, now: Duration) {
        let seats = &mut self.lock()[balancer];
        seats.has_changed = false;
        for seat in seats.proxies.iter_mut().filter(|seat| seat.drained) {
            *seat = Seat {
                drained: false,
                changed: Some(now),
                away: seat.away.filter(|_| !seat.listed),
                ..*seat
            };
        }
    }

    /// Its list is these from now on, good as soon as it is noticed.
    pub(crate) fn list(&self, balancer: usize, listed: &[usize]) {
        let seats = &mut self.lock()[balancer];
        seats.has_changed = true;
        for (index, seat) in seats.proxies.iter_mut().enumerate() {
            let is_listed = listed.contains(&index);
            if is_listed != seat.listed {
                // One that comes back may be the one that was drained, if nobody has noticed that it was gone.
                (seat.listed, seat.changed, seat.away) = (is_listed, Some(now()), None);
            }
            if !is_listed && seat.away.is_none_or(|away| away > now()) {
                seat.away = Some(now() + NOTICE);
            }
        }
    }

    /// It is being told to drain a proxy, or to use it again.
    pub(crate) fn turn(&self, balancer: usize, index: usize) {
        let seat = &mut self.lock()[balancer].proxies[index];
        (seat.drained, seat.changed) = (true, Some(now()));
        seat.away = seat.away.filter(|_| !seat.listed);
    }

    /// It has answered that it does so.
    pub(crate) fn turned(&self, balancer: usize, index: usize, drained: bool) {
        let seat = &mut self.lock()[balancer].proxies[index];
        (seat.drained, seat.changed) = (drained, Some(now()));
        if drained {
            seat.away = Some(seat.away.map_or(now(), |away| away.min(now())));
        }
    }

    /// The proxies that are listed, those that are told to drain, and how many are neither.
    pub(crate) fn seated(&self, balancer: usize) -> (Vec<usize>, Vec<usize>, usize) {
        let seats = &self.lock()[balancer].proxies;
        let those =
            |is: fn(&Seat) -> bool| (0..seats.len()).filter(|index| is(&seats[*index])).collect::<Vec<_>>();
        let used = those(|seat| seat.listed && !seat.drained).len();
        (those(|seat| seat.listed), those(|seat| seat.drained), used)
    }

    /// Whether a proxy was a balancer's to use from well before `start` on.
    pub(crate) fn was_used(&self, balancer: usize, index: usize, start: Duration) -> bool {
        let seat = &self.lock()[balancer].proxies[index];
        seat.listed && !seat.drained && seat.changed.is_none_or(|at| at + RECOVERY < start)
    }

    pub(crate) fn has_changed(&self, balancer: usize) -> bool {
        self.lock()[balancer].has_changed
    }

    /// A balancer asks a proxy, for somebody who asked it then, or to try that proxy: it must have it.
    pub(crate) fn check(&self, balancer: usize, index: usize, asked: Option<Duration>) {
        let away = self.lock()[balancer].proxies[index].away;
        let asked = asked.unwrap_or_else(|| now().saturating_sub(TRIAL));
        assert!(
            away.is_none_or(|away| asked <= away),
            "lb{balancer} was asked at {asked:?} and asks proxy{index}, which it shall not use since {away:?}"
        );
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        // Left behind when it cannot be removed: no run reads the lists of another.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
