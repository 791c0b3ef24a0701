//! The proxies of each balancer: its list file, and its drains.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dproxy::lb::Lb;

use crate::cluster::{BALANCERS, PORT, proxy};
use crate::world::{RECOVERY, now};

/// A balancer applies a changed file within this time.
pub(crate) const NOTICE: Duration = Duration::from_secs(2);
/// A trial reaches its node within this time, even on a link that holds messages.
const TRIAL: Duration = Duration::from_secs(8);

/// A proxy in the view of a balancer.
#[derive(Clone, Default)]
struct Seat {
    /// Whether it drains, or may drain.
    drained: bool,
    listed: bool,
    /// The time from which on it gets no request.
    away: Option<Duration>,
    /// The time of the last change.
    changed: Option<Duration>,
}

/// The proxies of one balancer.
#[derive(Default)]
struct Seats {
    proxies: Vec<Seat>,
    /// Whether proxies may have left since its start, together with their counts.
    has_changed: bool,
    lb: Weak<Lb>,
}

/// The proxies of all balancers.
pub(crate) struct Roster {
    folder: PathBuf,
    /// A number in each list, so that no two have one text: a rewrite must not depend on the clock of the file system.
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

    /// The state directory of a balancer.
    pub(crate) fn state(&self, balancer: usize) -> PathBuf {
        self.folder.join(format!("state{balancer}"))
    }

    /// Writes lines into it, good ones or bad.
    pub(crate) fn write(&self, balancer: usize, lines: &[String]) {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let text = format!("# {number}\n{}\n", lines.join("\n"));
        std::fs::write(self.file(balancer), text).expect("a list is written");
    }

    /// A balancer has started with the list in its file.
    pub(crate) fn started(&self, balancer: usize, lb: Weak<Lb>) {
        self.lock()[balancer].lb = lb;
    }

    /// The balancer reads its file at once.
    pub(crate) fn reload(&self, balancer: usize) {
        let lb = self.lock()[balancer].lb.upgrade();
        if let Some(lb) = lb {
            lb.reload();
        }
    }

    /// A balancer has died and forgotten its drains, unless they are kept; its file remains.
    pub(crate) fn died(&self, balancer: usize, now: Duration, are_kept: bool) {
        let seats = &mut self.lock()[balancer];
        seats.has_changed = false;
        if are_kept {
            return;
        }
        for seat in seats.proxies.iter_mut().filter(|seat| seat.drained) {
            *seat = Seat {
                drained: false,
                changed: Some(now),
                away: seat.away.filter(|_| !seat.listed),
                ..*seat
            };
        }
    }

    /// These are its list from now on, applied as soon as it reads the file.
    pub(crate) fn list(&self, balancer: usize, listed: &[usize]) {
        let seats = &mut self.lock()[balancer];
        seats.has_changed = true;
        for (index, seat) in seats.proxies.iter_mut().enumerate() {
            let is_listed = listed.contains(&index);
            if is_listed != seat.listed {
                // A proxy that comes back may still be drained, if the balancer did not read the list without it.
                (seat.listed, seat.changed, seat.away) = (is_listed, Some(now()), None);
            }
            if !is_listed && seat.away.is_none_or(|away| away > now()) {
                seat.away = Some(now() + NOTICE);
            }
        }
    }

    /// DRAIN or UNDRAIN is on its way.
    pub(crate) fn turn(&self, balancer: usize, index: usize) {
        let seat = &mut self.lock()[balancer].proxies[index];
        (seat.drained, seat.changed) = (true, Some(now()));
        seat.away = seat.away.filter(|_| !seat.listed);
    }

    /// DRAIN or UNDRAIN was answered.
    pub(crate) fn turned(&self, balancer: usize, index: usize, drained: bool) {
        let seat = &mut self.lock()[balancer].proxies[index];
        (seat.drained, seat.changed) = (drained, Some(now()));
        if drained {
            seat.away = Some(seat.away.map_or(now(), |away| away.min(now())));
        }
    }

    /// The listed proxies, the draining ones, and the number of others.
    pub(crate) fn seated(&self, balancer: usize) -> (Vec<usize>, Vec<usize>, usize) {
        let seats = &self.lock()[balancer].proxies;
        let those =
            |is: fn(&Seat) -> bool| (0..seats.len()).filter(|index| is(&seats[*index])).collect::<Vec<_>>();
        let used = those(|seat| seat.listed && !seat.drained).len();
        (those(|seat| seat.listed), those(|seat| seat.drained), used)
    }

    /// Whether a balancer could use a proxy from well before `start` on.
    pub(crate) fn was_used(&self, balancer: usize, index: usize, start: Duration) -> bool {
        let seat = &self.lock()[balancer].proxies[index];
        seat.listed && !seat.drained && seat.changed.is_none_or(|at| at + RECOVERY < start)
    }

    /// When a balancer's use of a proxy changed last; zero for never.
    pub(crate) fn changed(&self, balancer: usize, index: usize) -> Duration {
        self.lock()[balancer].proxies[index].changed.unwrap_or_default()
    }

    pub(crate) fn has_changed(&self, balancer: usize) -> bool {
        self.lock()[balancer].has_changed
    }

    /// A balancer sends a request to a proxy, for a GET that came at that time or as a trial: it must have this proxy.
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
        // A leftover is harmless: no run reads the lists of another.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
