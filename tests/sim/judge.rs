//! The judge checks every reply to a GET.

use std::time::Duration;

use dproxy::wire::{ReplyView, Status};
use serde_json::Value;

use crate::cluster::{FETCH, LEASE, balancer, proxy};
use crate::world::{KEYS, PORTS, Trouble, World, now, pair, text};

/// Every node counts whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(50);

/// A document that no node can serve.
pub(crate) fn some_trouble() -> String {
    format!("{}/{}", ["broken", "large", "slow"][fastrand::usize(..3)], fastrand::u8(..4))
}

/// A GET, and the state of the world when it was sent.
pub(crate) struct Asked {
    pub(crate) path: String,
    through: usize,
    start: Duration,
    floor: u64,
    /// The oldest version that may be shown as fresh.
    told: u64,
    /// Whether its deadline is so short that a missing reply is no fault.
    is_hasty: bool,
}

/// Some keys are requested far more often than others.
pub(crate) fn some_key() -> String {
    let (a, b) = (fastrand::u64(..KEYS), fastrand::u64(..KEYS));
    format!("article/{}", a.min(b))
}

impl Asked {
    /// A GET at this balancer, now, for a random document.
    pub(crate) fn some(world: &World, through: usize) -> Self {
        Self::of(world, through, some_key())
    }

    pub(crate) fn of(world: &World, through: usize, path: String) -> Self {
        let (start, floor, told) = (now(), world.floor(through, &path), world.told(&path));
        Self { path, through, start, floor, told, is_hasty: false }
    }

    /// A GET with a very short deadline.
    pub(crate) fn hastily(self) -> Self {
        Self { is_hasty: true, ..self }
    }

    /// Checks the reply: a line without its end, or the reason for none.
    pub(crate) fn told(&self, world: &World, line: Result<&[u8], String>) {
        let Self { path, through, start, .. } = self;
        let shown = line.as_ref().map(|line| String::from_utf8_lossy(line));
        let what = format!("{path} asked of lb{through} at {start:?}, told {shown:?}");
        world.note(&what);
        let view = line.map(|line| ReplyView::parse(line).expect("a sound reply, and one only"));
        let is_due = self.is_due(world);
        let is_sound = match &view {
            Ok(view) if Trouble::of(path).is_some() => {
                assert!(!matches!(view.status, Status::Ok | Status::NotFound), "{what}");
                false
            }
            Ok(view) if view.status == Status::Ok => {
                self.check_document(world, view);
                true
            }
            Ok(view) if view.status == Status::NotFound => {
                self.check_missing(world);
                true
            }
            Ok(view) => {
                use Status::{OriginFailure, Overloaded, ProxyError, ProxyUnreachable};
                let is_known =
                    matches!(view.status, OriginFailure | Overloaded | ProxyError | ProxyUnreachable);
                assert!(is_known, "{what}");
                false
            }
            Err(_) => false,
        };
        let node = view.as_ref().ok().and_then(|view| view.node).unwrap_or_default();
        assert!(usize::from(node) < world.plan.proxies, "{what}");
        world.note_answer(is_sound, is_due);
        assert!(is_sound || !is_due, "{what} though a healthy proxy was there");
    }

    fn check_document(&self, world: &World, view: &ReplyView<'_>) {
        let Self { path, start, floor, told, .. } = self;
        let document: Value = serde_json::from_str(view.data).expect("a document");
        let version = document["version"].as_u64().expect("a version");
        assert_eq!(view.data, text(path, version), "a document is a function of its key and version");
        assert!(version <= world.version(path), "{path}: version {version} is not there yet");
        let plan = &world.plan;
        let stale = plan.stale_while_revalidate.max(plan.stale_if_error);
        assert!(
            !view.stale || !stale.is_zero() || world.was_purged_softly(path),
            "{path}: version {version} was stale at {start:?}, and nothing allows that"
        );
        // The age counts from the start of the fetch, and a waiter gets the document of a fetch that began before its request.
        let limit = plan.ttl.max(FETCH) + ROUNDING + if view.stale { stale } else { Duration::ZERO };
        // An entry that is fresh was vouched for by a word of the origin within the lease, or fetched within its time to live.
        let is_from_cache = plan.told && view.cache_hit == Some(true) && !view.stale;
        let limit = if is_from_cache { LEASE + ROUNDING } else { limit };
        if let Some(replaced) = world.replaced(path, version) {
            assert!(
                replaced + limit >= *start,
                "{path}: version {version}, replaced at {replaced:?}, was seen by who asked at {start:?}"
            );
        }
        assert!(
            view.stale || version >= *told,
            "{path}: version {version} was shown as fresh at {start:?}, and {told} was told to all before"
        );
        assert!(
            version >= *floor,
            "{path}: version {version} was seen at {start:?}, and {floor} was purged for before"
        );
    }

    fn check_missing(&self, world: &World) {
        let Self { path, start, floor, .. } = self;
        let since = start.saturating_sub(world.plan.negative_ttl + FETCH + ROUNDING);
        assert!(world.was_gone(path, since, *floor), "{path}: missed by who asked at {start:?}");
    }

    /// Whether only a document will do: a proxy and the origin were healthy and reachable all the time.
    fn is_due(&self, world: &World) -> bool {
        let whole = |name: &str| world.was_whole(name, self.start);
        let lb = balancer(self.through);
        let sees_origin = |index: &usize| whole(&pair(&proxy(*index), "origin"));
        let blind = (0..world.plan.proxies).filter(|index| !sees_origin(index)).count();
        // Without a port only the sessions that are open can be used.
        let has_session = |index: &usize| {
            let broken = [proxy(*index), lb.clone(), pair(&lb, &proxy(*index))];
            let since = broken.iter().map(|name| world.last_broken(name)).max().unwrap_or_default();
            let since = since.max(world.roster.changed(self.through, *index));
            world.ledger.was_relied_on(&lb, &proxy(*index), since)
        };
        let well = (0..world.plan.proxies)
            .filter(|index| world.roster.was_used(self.through, *index, self.start))
            .filter(|index| whole(PORTS) || has_session(index))
            .filter(|index| sees_origin(index) && whole(&proxy(*index)) && whole(&pair(&lb, &proxy(*index))))
            .count();
        // ORIGIN_FAILURE may be relayed when two proxies reply with it.
        !self.is_hasty
            && Trouble::of(&self.path).is_none()
            && whole(&lb)
            && whole("origin")
            && well > 0
            && blind < 2
    }
}
