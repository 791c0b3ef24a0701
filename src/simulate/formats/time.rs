//! Times of access logs, in milliseconds since 1970.

use crate::proxy::cache::Millis;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `30/Nov/2026:14:50:15 +0100`, as the combined log has it.
pub(super) fn common(text: &str) -> Option<Millis> {
    let (date, rest) = text.split_once(':')?;
    let (clock, zone) = rest.split_once(' ')?;
    let mut parts = date.split('/');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let day = days(number(year)?, month, number(day)?)?;
    at(day, time_of_day(clock)?, zone_ms(zone)?)
}

/// `2026-11-30T14:50:15.250Z` (RFC 3339); a blank for the T, slashes in the date, and UTC without a word on it will do.
pub(super) fn iso(text: &str) -> Option<Millis> {
    let (date, rest) = text.trim_ascii().split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone_at);
    let mut parts = date.split(['-', '/']);
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let day = days(number(year)?, number(month)?, number(day)?)?;
    at(day, time_of_day(clock.trim_ascii_end())?, zone_ms(zone)?)
}

/// A number since 1970: seconds, or milli-, micro- or nanoseconds when it were centuries from now in seconds.
pub(super) fn unix(number: f64) -> Option<Millis> {
    let millis = match number {
        _ if !number.is_finite() || number < 0.0 => return None,
        ..1e11 => number * 1e3,
        ..1e14 => number,
        ..1e17 => number / 1e3,
        _ => number / 1e6,
    };
    Some(Millis(millis as u64))
}

/// Days from 1970 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<i64> {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let leaps = |years: u64| years / 4 - years / 100 + years / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let this_year = BEFORE[month as usize - 1] + u64::from(is_leap && month > 2) + day - 1;
    Some(((year - 1970) * 365 + leaps(year - 1) - leaps(1969) + this_year) as i64)
}

/// Milliseconds of `14:50:15` or `14:50:15.250`.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.split(':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    // A leap second is the 60th.
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    if hour > 23 || minute > 59 || second > 60 || parts.next().is_some() {
        return None;
    }
    number(fraction)?;
    let millis: u64 = format!("{fraction:0<3.3}").parse().ok()?;
    Some((((hour * 60 + minute) * 60 + second) * 1000 + millis) as i64)
}

/// Milliseconds ahead of UTC: `+0100`, `-05:30`, `Z` or nothing.
fn zone_ms(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.as_bytes().first() {
        None | Some(b'Z' | b'z') => return Some(0),
        Some(b'+') => (1, &zone[1..]),
        Some(b'-') => (-1, &zone[1..]),
        Some(_) => return None,
    };
    let digits = digits.replace(':', "");
    let together = number(&digits).filter(|_| digits.len() == 4)? as i64;
    Some(sign * (together / 100 * 60 + together % 100) * 60_000)
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn at(day: i64, millis: i64, zone: i64) -> Option<Millis> {
    u64::try_from(day * 86_400_000 + millis - zone).ok().map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    // `date -u -d 2026-11-30T13:50:15Z +%s`
    const THEN: u64 = 1_796_046_615_000;

    #[test]
    fn reads_the_times_of_logs() {
        assert_eq!(common("30/Nov/2026:14:50:15 +0100"), Some(Millis(THEN)));
        assert_eq!(common("30/Nov/2026:08:20:15 -0530"), Some(Millis(THEN)));
        for text in [
            "2026-11-30T13:50:15Z",
            "2026-11-30T13:50:15.000Z",
            "2026-11-30 13:50:15",
            "2026/11/30 13:50:15",
            "2026-11-30T14:50:15+01:00",
        ] {
            assert_eq!(iso(text), Some(Millis(THEN)), "{text}");
        }
        assert_eq!(iso("2026-11-30T13:50:15.1239Z"), Some(Millis(THEN + 123)));
        assert_eq!(iso("1970-01-01T00:00:00.5Z"), Some(Millis(500)));
        assert_eq!(iso("2000-03-01T00:00:00Z"), Some(Millis(951_868_800_000)));
        for number in [1_796_046_615.0, 1_796_046_615e3, 1_796_046_615e6, 1_796_046_615e9] {
            assert_eq!(unix(number), Some(Millis(THEN)), "{number}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "-", "30/Nov/2026", "30/Now/2026:14:50:15 +0100", "30/Nov/2026:24:50:15 +0100"] {
            assert_eq!(common(text), None, "{text}");
        }
        for text in ["", "today", "2026-13-30T13:50:15Z", "2026-11-30T13:50Z", "2026-11-30T13:50:15+1"] {
            assert_eq!(iso(text), None, "{text}");
        }
        assert_eq!((unix(-1.0), unix(f64::NAN)), (None, None));
    }
}
