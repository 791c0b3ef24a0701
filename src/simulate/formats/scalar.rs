//! A value of a JSON log: servers write numbers as numbers or in quotes, and times as either.

use std::borrow::Cow;

use serde::Deserialize;

use super::time;
use crate::proxy::cache::Millis;

/// A number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar<'a> {
    Number(f64),
    #[serde(borrow)]
    Text(Cow<'a, str>),
}

impl Scalar<'_> {
    /// A whole number.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Number(number) => (*number >= 0.0 && number.fract() == 0.0).then_some(*number as u64),
            Self::Text(text) => text.parse().ok(),
        }
    }

    /// A status of HTTP.
    pub(super) fn status(&self) -> Option<u16> {
        self.count().and_then(|count| u16::try_from(count).ok())
    }

    /// A time: since 1970, or a date.
    pub(super) fn time(&self) -> Option<Millis> {
        match self {
            Self::Number(number) => time::unix(*number),
            Self::Text(text) => {
                let of_number = || text.parse().ok().and_then(time::unix);
                time::iso(text).or_else(|| time::common(text)).or_else(of_number)
            }
        }
    }
}
