//! The time in which a certificate is valid, read from its DER (RFC 5280, section 4.1).

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::certificates::Validity;

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The time in which all of these are valid: a certificate, and those between it and its CA. `None` when one is none, or there
/// is none.
pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let mut each = chain.iter().map(|certificate| of(certificate));
    let first = each.next()??;
    each.try_fold(first, |all, next| {
        let next = next?;
        Some(Validity { begin: all.begin.max(next.begin), end: all.end.min(next.end) })
    })
}

/// The time in which a certificate is valid. `None` when the bytes are none.
fn of(certificate: &[u8]) -> Option<Validity> {
    let (_, certificate, _) = element(certificate).filter(is_sequence)?;
    let (_, mut rest, _) = element(certificate).filter(is_sequence)?;
    if element(rest)?.0 == VERSION {
        rest = element(rest)?.2;
    }
    // The serial number, the algorithm, the issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest).filter(is_sequence)?;
    let (begin_tag, begin, rest) = element(validity)?;
    let (end_tag, end, _) = element(rest)?;
    Some(Validity { begin: seconds(begin_tag, begin)?, end: seconds(end_tag, end)? })
}

/// The tag, the content, and the bytes behind an element.
type Element<'a> = (u8, &'a [u8], &'a [u8]);

fn is_sequence(element: &Element<'_>) -> bool {
    element.0 == SEQUENCE
}

fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` as seconds since the epoch.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { year + 2000 } else { year + 1900 }, text.get(2..)?)
        }
        (GENERALIZED_TIME, 14) => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (two(0)?, two(2)?, two(4)?, two(6)?, two(8)?);
    // Days of the calendar, counted from a first of March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Fuzz, outcome};

    #[test]
    fn certificates_survive_any_bytes() {
        // A certificate but for what lies behind its validity.
        let certificate =
            b"\x30\x35\x30\x33\xa0\x03\x02\x01\x02\x02\x01\x07\x30\x03\x06\x01\x2a\x30\x02\x31\x00\
            \x30\x20\x17\x0d240229123456Z\x18\x0f20500301000000Z";
        assert!(of(certificate).is_some());
        let words = ["\x17\x0d", "\x18\x0f", "Z", "00000000", "99999999", "\x30\x02", "-"];
        Fuzz { samples: &[certificate], words: &words }.run(|bytes| {
            let validity = of(bytes);
            outcome((validity.is_some(), validity.map(|validity| validity.begin.cmp(&validity.end))))
        });
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        assert_eq!(seconds(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, b"240229123456Z"), Some(1_709_210_096));
        assert_eq!(seconds(GENERALIZED_TIME, b"20500301000000Z"), Some(2_529_705_600));
        for bad in [&b"240229123456"[..], b"24022912345Z", b"2402291234xxZ", b"\xff"] {
            assert_eq!(seconds(UTC_TIME, bad), None);
        }
    }

    #[test]
    fn the_validity_is_that_of_the_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(1999, 12, 31), rcgen::date_time_ymd(2051, 1, 1));
        let certificate = params.self_signed(&key).unwrap();
        let validity = Validity { begin: 946_598_400, end: 2_556_144_000 };
        assert_eq!(of(certificate.der()), Some(validity));
        // The shortest of a chain counts.
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2050, 1, 1));
        let chain = [certificate.der().clone(), params.self_signed(&key).unwrap().der().clone()];
        let all = of_chain(&chain).unwrap();
        assert!(all.begin > validity.begin && all.end < validity.end, "{all:?}");
        assert_eq!(of_chain(&[]), None);
        for cut in 0..certificate.der().len() {
            assert_eq!(of(&certificate.der()[..cut]), None);
        }
    }
}
