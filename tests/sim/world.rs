//! The truth outside of the cluster: documents and their versions, faults and their times, purges.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use dproxy::origin::changes::Changes;
use dproxy::origin::store::{Store, StoreError};
use dproxy::wire::{Document, Key, Reply, Request, Status};
use tokio_util::sync::CancellationToken;

use crate::cluster::Plan;
use crate::ledger::Ledger;
use crate::record::Record;
use crate::roster::Roster;

/// The numbers in the names of all documents.
pub(crate) const KEYS: u64 = 12;
/// The largest document that a proxy takes, in bytes.
pub(crate) const LARGEST: usize = 65_536;
/// The time that a balancer may need after a fault to use a repaired node.
pub(crate) const RECOVERY: Duration = Duration::from_secs(9);
/// The name under which ports for connections to proxies are noted as broken.
pub(crate) const PORTS: &str = "ports";

/// A resource whose documents no node can serve, and the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// The origin cannot read them.
    Broken,
    /// They are larger than a proxy takes.
    Large,
    /// The origin takes longer than any fetch may.
    Slow,
}

impl Trouble {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path.split_once('/')?.0 {
            "broken" => Some(Self::Broken),
            "large" => Some(Self::Large),
            "slow" => Some(Self::Slow),
            _ => None,
        }
    }
}

/// The truth.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) record: Record,
    /// Requests and replies of each host.
    pub(crate) ledger: Ledger,
    /// The proxies of each balancer.
    pub(crate) roster: Roster,
    /// Ends all hosts at the end of the run.
    pub(crate) stop: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The time of each version of a document after the first.
    versions: HashMap<String, Vec<Duration>>,
    /// The last fault of a host or a pair of hosts, by name.
    broken: HashMap<String, Duration>,
    /// Proxies that reply wrongly.
    spoilt: HashMap<String, Spoilt>,
    /// The oldest version allowed through a balancer, since a purge that it answered while nodes owed it.
    floors: HashMap<(usize, String), u64>,
    /// As `floors`, for purges that the balancer still knows after its restart.
    kept: HashMap<(usize, String), u64>,
    /// The oldest version allowed anywhere, since a purge that every proxy did.
    sunk: HashMap<String, u64>,
    /// The oldest version that may be shown as fresh, since a change that was told to every proxy.
    told: HashMap<String, u64>,
    /// The log of the origin, while it runs.
    changes: Weak<Changes>,
    /// Documents with a soft purge.
    softened: HashSet<String>,
    asked: u64,
    ok: u64,
    /// Replies that had to be documents.
    due: u64,
}

/// Who owes a purge that was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owed {
    /// Every proxy has done it.
    Nowhere,
    /// A proxy owes it to the balancer, until that is restarted.
    Here,
    /// A proxy owes it to the balancer for good.
    Durably,
}

/// Wrong replies of a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spoilt {
    /// OVERLOADED.
    Overloaded,
    /// Garbage.
    Garbage,
    /// A refusal of purges; other replies are right.
    Unpurged,
}

impl Spoilt {
    /// The wrong reply to a request; `None` if the role replies itself.
    pub(crate) fn reply(self, request: Request<'_>) -> Option<Reply> {
        const GARBAGE: [&str; 6] = [
            "",
            "nothing that anybody knows",
            r#"{"status":"OK","data":{"key":"article/1","vers"#,
            r#"{"status":"OK","data":null}{"status":"OK","data":null}"#,
            r#"{"status":"OK"}"#,
            r#"{"status":"SPLENDID","data":{}}"#,
        ];
        match (self, request) {
            (Spoilt::Overloaded, Request::Get(_)) | (Spoilt::Unpurged, Request::Purge { .. }) => {
                Some(Reply::text(Status::Overloaded, "there is too much to do"))
            }
            (Spoilt::Garbage, Request::Get(_)) => {
                let line = GARBAGE[fastrand::usize(..GARBAGE.len())];
                Some(Reply::relayed(Status::Ok, Bytes::from_static(line.as_bytes())))
            }
            _ => None,
        }
    }
}

/// The time of the run; only within a host's software.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The name of a link.
pub(crate) fn pair(a: &str, b: &str) -> String {
    format!("{a}-{b}")
}

/// Whether the document does not exist in this version.
pub(crate) fn is_gone(version: u64) -> bool {
    version % 6 == 4
}

/// The text of a version: a function of key and version, so that a mixture of two is detected.
pub(crate) fn text(key: &str, version: u64) -> String {
    let check = key.bytes().fold(version ^ 0x9e37_79b9, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    let filler = "x".repeat((check % 700) as usize);
    format!(r#"{{"key":"{key}","version":{version},"check":{check},"filler":"{filler}"}}"#)
}

impl World {
    pub(crate) fn new(plan: Plan, is_loud: bool) -> Self {
        let (record, ledger, inner) = (Record::new(is_loud), Ledger::default(), Mutex::default());
        let roster = Roster::new(plan.proxies);
        Self { plan, record, ledger, roster, stop: CancellationToken::new(), inner }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event on a host.
    pub(crate) fn note(&self, event: impl Display) {
        self.record.note(now(), event);
    }

    pub(crate) fn version(&self, key: &str) -> u64 {
        self.lock().versions.get(key).map_or(0, |versions| versions.len() as u64)
    }

    pub(crate) fn change(&self, key: &str) {
        let mut inner = self.lock();
        inner.versions.entry(key.to_owned()).or_default().push(now());
        // While the origin is away nobody tells; its next epoch does.
        if let Some(changes) = inner.changes.upgrade() {
            changes.add([key]);
        }
    }

    /// The origin has begun to tell of changes.
    pub(crate) fn tells(&self, changes: &Arc<Changes>) {
        self.lock().changes = Arc::downgrade(changes);
    }

    /// Every proxy knows that no older version than this may be shown as fresh.
    pub(crate) fn was_told(&self, key: &str, version: u64) {
        self.lock().told.insert(key.to_owned(), version);
    }

    /// The oldest version that may be shown as fresh.
    pub(crate) fn told(&self, key: &str) -> u64 {
        self.lock().told.get(key).copied().unwrap_or_default()
    }

    /// The time at which the next version replaced this one.
    pub(crate) fn replaced(&self, key: &str, version: u64) -> Option<Duration> {
        self.lock().versions.get(key).and_then(|versions| versions.get(version as usize)).copied()
    }

    /// Whether the document did not exist at some time from `since` on, in a version not older than `floor`.
    pub(crate) fn was_gone(&self, key: &str, since: Duration, floor: u64) -> bool {
        let is_recent = |version: &u64| self.replaced(key, *version).is_none_or(|at| at >= since);
        (floor..=self.version(key)).filter(is_recent).any(is_gone)
    }

    /// Marks these as broken now.
    pub(crate) fn note_broken(&self, names: &[String], now: Duration) {
        let mut inner = self.lock();
        for name in names {
            inner.broken.insert(name.clone(), now);
        }
    }

    /// When it was broken last; zero for never.
    pub(crate) fn last_broken(&self, name: &str) -> Duration {
        self.lock().broken.get(name).copied().unwrap_or_default()
    }

    /// Whether it was unbroken from well before `start` on.
    pub(crate) fn was_whole(&self, name: &str, start: Duration) -> bool {
        self.lock().broken.get(name).is_none_or(|at| *at + RECOVERY < start)
    }

    /// Whether it is unbroken since then.
    pub(crate) fn was_unbroken(&self, name: &str, since: Duration) -> bool {
        self.lock().broken.get(name).is_none_or(|at| *at < since)
    }

    /// Sets the replies of a proxy from now on.
    pub(crate) fn spoil(&self, host: &str, spoilt: Option<Spoilt>) {
        let mut inner = self.lock();
        match spoilt {
            Some(spoilt) => inner.spoilt.insert(host.to_owned(), spoilt),
            None => inner.spoilt.remove(host),
        };
    }

    pub(crate) fn spoilt(&self, host: &str) -> Option<Spoilt> {
        self.lock().spoilt.get(host).copied()
    }

    /// A balancer answered a purge of a version. No older version is allowed through it from now on, and nowhere if no proxy
    /// owes the purge.
    pub(crate) fn purged(&self, balancer: usize, key: &str, version: u64, owed: Owed) {
        let mut inner = self.lock();
        let floor = match owed {
            Owed::Here => inner.floors.entry((balancer, key.to_owned())).or_default(),
            Owed::Durably => inner.kept.entry((balancer, key.to_owned())).or_default(),
            Owed::Nowhere => inner.sunk.entry(key.to_owned()).or_default(),
        };
        *floor = version.max(*floor);
    }

    pub(crate) fn purged_softly(&self, key: &str) {
        self.lock().softened.insert(key.to_owned());
    }

    pub(crate) fn was_purged_softly(&self, key: &str) -> bool {
        self.lock().softened.contains(key)
    }

    /// A restarted balancer knows only of owed purges that it keeps.
    pub(crate) fn forget_purges(&self, balancer: usize) {
        self.lock().floors.retain(|(of, _), _| *of != balancer);
    }

    pub(crate) fn floor(&self, balancer: usize, key: &str) -> u64 {
        let inner = self.lock();
        let at = (balancer, key.to_owned());
        let [here, kept] =
            [&inner.floors, &inner.kept].map(|floors| floors.get(&at).copied().unwrap_or_default());
        here.max(kept).max(inner.sunk.get(key).copied().unwrap_or_default())
    }

    /// Counts a reply; `due` if only a document was right.
    pub(crate) fn note_answer(&self, is_ok: bool, due: bool) {
        let mut inner = self.lock();
        inner.asked += 1;
        inner.ok += u64::from(is_ok);
        inner.due += u64::from(due);
    }

    /// The schedule must have checked enough replies.
    pub(crate) fn check_totals(&self) {
        let inner = self.lock();
        let (ok, asked, due) = (inner.ok, inner.asked, inner.due);
        self.record.say(|| format!("of {asked} answers {ok} were documents, {due} had to be"));
        assert!(asked > 500, "clients asked {asked}");
        assert!(ok * 4 > asked, "{ok} of {asked} answers were documents");
    }
}

/// The world as a store of the origin.
pub(crate) struct Documents(pub(crate) Arc<World>);

impl Store for Documents {
    fn read(&self, key: Key<'_>) -> Result<Document, StoreError> {
        match Trouble::of(key.as_str()) {
            None => {}
            Some(Trouble::Broken) => return Err(StoreError::Unfit("it is no document".to_owned())),
            Some(Trouble::Large | Trouble::Slow) => {
                // Some are too long for a line, others hardly too large for a document.
                let size = if key.as_str().ends_with(['0', '1']) { 2 * LARGEST } else { LARGEST };
                let text = format!("\"{}\"", "x".repeat(size));
                return Document::parse(text.as_bytes(), 3 * LARGEST)
                    .map_err(|error| StoreError::Unfit(error.to_string()));
            }
        }
        let version = self.0.version(key.as_str());
        if is_gone(version) {
            return Err(StoreError::Missing);
        }
        let text = text(key.as_str(), version);
        Document::parse(text.as_bytes(), LARGEST).map_err(|error| StoreError::Unfit(error.to_string()))
    }
}
