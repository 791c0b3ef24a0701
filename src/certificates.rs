//! The times in which the certificates of a node are valid, for the METRICS of each role. `net::tls` sets them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::lock::lock;

/// The last second of the year 9999: the end of a certificate that has none (RFC 5280, section 4.1.2.5).
const NO_END: i64 = 253_402_300_799;

/// The time in which a certificate, and each one between it and its CA, is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// Its first second, since 1970.
    pub begin: i64,
    /// Its last second, since 1970.
    pub end: i64,
}

/// The validity of the certificate in use. Clones see the one that replaces it.
#[derive(Clone, Debug)]
pub struct InUse(Arc<Mutex<Validity>>);

impl InUse {
    /// A certificate of this validity is in use.
    pub fn new(validity: Validity) -> Self {
        Self(Arc::new(Mutex::new(validity)))
    }

    /// Another certificate is in use from now on.
    pub fn replace(&self, validity: Validity) {
        *lock(&self.0) = validity;
    }
}

/// The certificates of a node.
#[derive(Clone, Default, Debug)]
pub struct Certificates {
    /// The certificate that its listeners show to clients.
    pub listener: Option<InUse>,
    /// The certificate that its links show to other nodes.
    pub peer: Option<InUse>,
}

/// What METRICS has of [`Certificates`].
#[derive(Serialize)]
pub struct CertificateMetrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<Times>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Times>,
}

#[derive(PartialEq, Debug, Serialize)]
struct Times {
    not_before: String,
    not_after: String,
    /// Negative once the certificate has expired.
    seconds_left: i64,
}

impl Certificates {
    /// As of now; `None` without certificates.
    pub fn metrics(&self) -> Option<CertificateMetrics> {
        let Self { listener, peer } = self;
        if listener.is_none() && peer.is_none() {
            return None;
        }
        let now = SystemTime::now();
        let of = |in_use: &Option<InUse>| in_use.as_ref().map(|in_use| Times::of(*lock(&in_use.0), now));
        Some(CertificateMetrics { listener: of(listener), peer: of(peer) })
    }
}

impl Times {
    fn of(validity: Validity, now: SystemTime) -> Self {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        Self {
            not_before: rfc3339(validity.begin),
            not_after: rfc3339(validity.end),
            seconds_left: validity.end - now,
        }
    }
}

fn rfc3339(seconds: i64) -> String {
    let since_1970 = Duration::from_secs(seconds.clamp(0, NO_END) as u64);
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since_1970).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_without_an_end_has_a_date_all_the_same() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let times = |begin, end| Times::of(Validity { begin, end }, now);
        let told = times(-5, i64::MAX / 2);
        assert_eq!((&*told.not_before, &*told.not_after), ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"));
        assert_eq!(times(0, 40).seconds_left, -60);
    }
}
