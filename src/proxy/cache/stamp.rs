//! The stamp of an entry: the last purge that it was checked against, and what was found.
//!
//! Purges are numbered. An entry whose stamp is that of the newest purge is shown without a look at any; the number and the
//! findings are one word, so that a hit pays one comparison for both.

/// A number of 30 bits, and two bits of findings. Numbers are compared modulo 2³⁰ (RFC 1982, serial number arithmetic).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stamp(pub(super) u32);

const SOFT: u32 = 1;
const PURGED: u32 = 2;
const ONE: u32 = 4;

impl Stamp {
    /// The stamp with these bits, as [`Stamp::bits`] returned them.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// All bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The number after this one, with nothing found.
    pub fn next(self) -> Self {
        Self(self.number().wrapping_add(ONE))
    }

    /// Whether the number of this is older than that of `other`.
    pub fn is_before(self, other: Self) -> bool {
        let ahead = other.number().wrapping_sub(self.number());
        ahead != 0 && ahead < 1 << 31
    }

    /// The number of `newest`, and the findings of this.
    pub fn at(self, newest: Self) -> Self {
        Self(newest.number() | (self.0 & (SOFT | PURGED)))
    }

    /// With the finding that a soft purge made it stale. What is outdated stays so.
    pub fn softened(self) -> Self {
        Self(self.0 | SOFT)
    }

    /// With the finding that its document has changed: it is stale, and served only if a fetch fails.
    pub fn outdated(self) -> Self {
        Self(self.0 | SOFT | PURGED)
    }

    /// With the finding that it must not be shown any more.
    pub fn purged(self) -> Self {
        Self(self.number() | PURGED)
    }

    /// Whether it is stale, by a soft purge or because its document has changed.
    pub fn is_soft(self) -> bool {
        self.0 & SOFT != 0
    }

    /// Whether its document has changed.
    pub fn is_outdated(self) -> bool {
        self.0 & (SOFT | PURGED) == SOFT | PURGED
    }

    /// Whether it must not be shown any more.
    pub fn is_purged(self) -> bool {
        self.0 & (SOFT | PURGED) == PURGED
    }

    fn number(self) -> u32 {
        self.0 & !(SOFT | PURGED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order_past_their_end() {
        let mut stamp = Stamp::from_bits(u32::MAX - 3 * ONE).purged().softened();
        for _ in 0..8 {
            let next = stamp.next();
            assert!(stamp.is_before(next) && !next.is_before(stamp) && !next.is_before(next));
            assert!(!next.is_soft() && !next.is_purged());
            stamp = next;
        }
    }

    #[test]
    fn findings_are_kept_apart_from_the_number() {
        let (old, new) = (Stamp::default().next(), Stamp::default().next().next());
        assert!(old.softened().is_soft() && !old.softened().is_purged() && old.purged().is_purged());
        assert!(!old.purged().is_before(old) && old.softened().is_before(new));
        assert_eq!(old.softened().at(new), new.softened());
        assert_ne!(new.softened(), new);
    }
}
