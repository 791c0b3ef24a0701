//! What is known of a document beside its text: its time, how it may be served when it is stale, and its validator.

use std::borrow::Cow;
use std::time::Duration;

use super::Past;

/// What an answer says beside the document.
#[derive(Clone, Default, Debug)]
pub struct Known {
    /// The time before the answer.
    pub past: Past,
    /// What the source says of keeping the document; `None` where it says nothing. Boxed: most answers have none.
    pub policy: Option<Box<Policy<'static>>>,
    /// Why the answer must not be stored; `None` if it may be.
    pub not_stored: Option<&'static str>,
}

/// How a document may be kept, as its source says. Times count from the answer on, in whole seconds where nothing else is
/// said; `None` where the source is silent and the flags of the proxy decide.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Policy<'a> {
    /// How long it is fresh: kept in whole milliseconds, 49 days at the most.
    pub lifetime: Option<Duration>,
    /// For how long it is served stale while it is fetched anew (RFC 5861, section 3).
    pub stale_while_revalidate: Option<u32>,
    /// For how long it is served stale while its source fails (RFC 5861, section 4).
    pub stale_if_error: Option<u32>,
    /// Each use asks the source first (RFC 9111, section 5.2.2.4): no flag lengthens its time.
    pub is_revalidated: bool,
    /// It must not be stored: it serves for one request alone.
    pub is_not_stored: bool,
    /// What the source knows this version by.
    pub validator: Option<Validator<'a>>,
    /// The tags by which it may be purged, with a space between two.
    pub tags: Cow<'a, str>,
}

/// What a source knows a version of a document by, as it wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Validator<'a> {
    /// An entity tag (RFC 9110, section 8.8.3), weak or strong.
    Etag(Cow<'a, [u8]>),
    /// A date (RFC 9110, section 8.8.2), for want of a tag.
    LastModified(Cow<'a, [u8]>),
}

impl Validator<'_> {
    /// As its source wrote it.
    pub fn as_bytes(&self) -> &[u8] {
        let (Validator::Etag(text) | Validator::LastModified(text)) = self;
        text
    }

    fn into_owned(self) -> Validator<'static> {
        match self {
            Validator::Etag(text) => Validator::Etag(text.into_owned().into()),
            Validator::LastModified(text) => Validator::LastModified(text.into_owned().into()),
        }
    }
}

/// How a policy is written down beside a document: three times of four bytes (the lifetime in milliseconds, the others in
/// seconds), a byte of bits, the tags behind their length of two bytes if there are any, and the validator.
const TIMES: usize = 3 * size_of::<u32>();
/// A time that the source does not say: those it says are less.
const UNSAID: u32 = u32::MAX;
const IS_REVALIDATED: u8 = 1;
const IS_NOT_STORED: u8 = 2;
const HAS_ETAG: u8 = 4;
const HAS_DATE: u8 = 8;
const HAS_TAGS: u8 = 16;

impl<'a> Policy<'a> {
    /// The policy that was written down as `bytes`; `None` if there are none.
    pub fn of_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (times, rest) = bytes.split_first_chunk::<TIMES>()?;
        let (&bits, rest) = rest.split_first()?;
        let (tags, text) = match bits & HAS_TAGS {
            0 => (&[][..], rest),
            _ => {
                let (length, rest) = rest.split_first_chunk()?;
                rest.split_at_checked(u16::from_le_bytes(*length).into())?
            }
        };
        let time = |n: usize| {
            let seconds = u32::from_le_bytes([times[n], times[n + 1], times[n + 2], times[n + 3]]);
            (seconds != UNSAID).then_some(seconds)
        };
        Some(Self {
            lifetime: time(0).map(|ms| Duration::from_millis(ms.into())),
            stale_while_revalidate: time(4),
            stale_if_error: time(8),
            is_revalidated: bits & IS_REVALIDATED != 0,
            is_not_stored: bits & IS_NOT_STORED != 0,
            validator: match bits & (HAS_ETAG | HAS_DATE) {
                HAS_ETAG => Some(Validator::Etag(text.into())),
                HAS_DATE => Some(Validator::LastModified(text.into())),
                _ => None,
            },
            tags: str::from_utf8(tags).ok()?.into(),
        })
    }

    /// What [`Self::of_bytes`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (bit, text) = match &self.validator {
            None => (0, &[][..]),
            Some(Validator::Etag(text)) => (HAS_ETAG, &text[..]),
            Some(Validator::LastModified(text)) => (HAS_DATE, &text[..]),
        };
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(UNSAID).min(UNSAID - 1);
        let times = [self.lifetime.map(millis), self.stale_while_revalidate, self.stale_if_error];
        let times = times.map(|seconds| seconds.unwrap_or(UNSAID).to_le_bytes());
        let mark = |is_set, mark| if is_set { mark } else { 0 };
        let bits = bit
            | mark(self.is_revalidated, IS_REVALIDATED)
            | mark(self.is_not_stored, IS_NOT_STORED)
            | mark(!self.tags.is_empty(), HAS_TAGS);
        // Tags have 1 KiB at the most.
        let length = (self.tags.len() as u16).to_le_bytes();
        let length = if self.tags.is_empty() { &[][..] } else { &length };
        [times.as_flattened(), &[bits], length, self.tags.as_bytes(), text].concat()
    }

    /// The same, with a text of its own.
    fn into_owned(self) -> Policy<'static> {
        let tags = self.tags.into_owned().into();
        Policy { validator: self.validator.map(Validator::into_owned), tags, ..self }
    }

    /// That of an answer which serves for one request alone.
    pub fn of_no_time() -> Self {
        Self {
            lifetime: Some(Duration::ZERO),
            stale_while_revalidate: Some(0),
            stale_if_error: Some(0),
            is_revalidated: true,
            is_not_stored: true,
            validator: None,
            tags: "".into(),
        }
    }

    /// For how long the document is served stale while it is fetched anew, if the source says it.
    pub fn stale_while_revalidate(&self) -> Option<Duration> {
        seconds(self.stale_while_revalidate)
    }

    /// For how long the document is served stale while the source fails, if the source says it.
    pub fn stale_if_error(&self) -> Option<Duration> {
        seconds(self.stale_if_error)
    }

    /// Whether the source forbids that the document is served stale at all.
    pub fn is_never_stale(&self) -> bool {
        (self.stale_while_revalidate, self.stale_if_error) == (Some(0), Some(0))
    }

    fn says_a_time(&self) -> bool {
        let stale = [self.stale_while_revalidate, self.stale_if_error];
        self.is_revalidated || self.lifetime.is_some() || stale.iter().any(Option::is_some)
    }
}

fn seconds(seconds: Option<u32>) -> Option<Duration> {
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

impl Known {
    /// What is known of a document after the source has said that it is unchanged: what that answer says counts, and what it
    /// leaves out is as it was (RFC 9111, section 4.3.4).
    pub fn renewed(self, held: Option<Policy<'_>>) -> Self {
        let Some(held) = held.map(Policy::into_owned) else { return self };
        let policy = match self.policy {
            None => held,
            Some(new) => {
                let validator = new.validator.clone().or_else(|| held.validator.clone());
                let tags = if new.tags.is_empty() { held.tags.clone() } else { new.tags.clone() };
                let times = if new.says_a_time() { *new } else { held };
                Policy { validator, tags, ..times }
            }
        };
        Self { policy: Some(Box::new(policy)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_was_written_down() {
        let date = Validator::LastModified(b"Mon, 30 Nov 2026 12:00:00 GMT"[..].into());
        for policy in [
            Policy::default(),
            Policy { lifetime: Some(Duration::ZERO), is_revalidated: true, ..Policy::default() },
            Policy { stale_while_revalidate: Some(1), validator: Some(date), ..Policy::default() },
            Policy {
                stale_if_error: Some(1 << 31),
                validator: Some(Validator::Etag(b"\"1\""[..].into())),
                ..Policy::of_no_time()
            },
            Policy { tags: "a b".into(), ..Policy::default() },
            Policy {
                tags: "x".repeat(1024).into(),
                validator: Some(Validator::Etag(b"W/"[..].into())),
                ..Policy::default()
            },
        ] {
            assert_eq!(Policy::of_bytes(&policy.to_bytes()).as_ref(), Some(&policy));
        }
        assert_eq!(Policy::of_bytes(b""), None);
    }

    #[test]
    fn what_a_renewal_leaves_out_is_as_it_was() {
        const FIVE: Duration = Duration::from_secs(5);
        let etag = |text: &'static str| Some(Validator::Etag(text.as_bytes().into()));
        let held =
            Policy { lifetime: Some(Duration::from_secs(60)), validator: etag("\"1\""), ..Policy::default() };
        let renewed = |policy: Option<Policy<'static>>| {
            let known = Known { policy: policy.map(Box::new), ..Known::default() };
            *known.renewed(Some(held.clone())).policy.unwrap()
        };
        assert_eq!(renewed(None), held);
        assert_eq!(renewed(Some(Policy { validator: etag("\"1\""), ..Policy::default() })), held);
        let shorter = renewed(Some(Policy { lifetime: Some(FIVE), ..Policy::default() }));
        assert_eq!(shorter, Policy { lifetime: Some(FIVE), ..held.clone() });
        let retagged = renewed(Some(Policy { validator: etag("W/\"1\""), ..Policy::default() }));
        assert_eq!(retagged, Policy { validator: etag("W/\"1\""), ..held.clone() });
        let tagged = renewed(Some(Policy { tags: "b".into(), ..Policy::default() }));
        assert_eq!(tagged, Policy { tags: "b".into(), ..held.clone() });
        assert!(Known::default().renewed(None).policy.is_none());
    }
}
