//! Values as people write them: `250ms`, `30s`, `5m`; `64KiB`, `256MiB`; `10%`; `host:port`.

use std::time::Duration;

use crate::net::link::{Peer, PeerError};

/// A duration: `250ms`, `30s`, `5m`, `1h`; a bare number is seconds, with a fraction if need be.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| "a duration is not negative".to_owned());
    }
    // humantime takes whole numbers only; `2.5s` is what people write.
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    if number.contains('.')
        && let Ok(number) = number.parse::<f64>()
        && let Ok(one) = humantime::parse_duration(&format!("1{unit}"))
    {
        return Duration::try_from_secs_f64(one.as_secs_f64() * number).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|_| "write a duration such as 250ms, 30s, 5m or 1h".to_owned())
}

/// A duration that is longer than nothing.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("it must be longer than 0".to_owned()) } else { Ok(duration) }
}

/// A size in bytes: `64KiB`, `256MiB`, `1GB`; a bare number is bytes.
pub fn size(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize =
        text.parse().map_err(|_| "write a size such as 64KiB, 256MiB or 1GiB".to_owned())?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err("it must be more than 0".to_owned()),
        Ok(size) => Ok(size),
        Err(_) => Err("it is more than this machine can address".to_owned()),
    }
}

/// A part of a whole as `10%` or `0.1`, from 0 to 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    match parsed {
        Ok(fraction) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        _ => Err("write a part such as 10% or 0.1".to_owned()),
    }
}

/// A count of at least one.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a whole number of at least 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// `on` or `off`.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

/// `host:port`, `[::1]:port`.
pub fn peer(text: &str) -> Result<Peer, String> {
    text.parse().map_err(|error: PeerError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, ms) in [
            ("30", 30_000),
            ("0.5", 500),
            ("250ms", 250),
            ("2.5s", 2500),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "x", "-1", "1 parsec", "NaN", "inf", "1e300"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn reads_sizes_and_parts() {
        assert_eq!((size("64KiB"), size("256MiB"), size("100")), (Ok(65_536), Ok(268_435_456), Ok(100)));
        assert!(size("0").is_err() && size("x").is_err() && size("-1").is_err());
        assert_eq!((fraction("10%"), fraction("0.25")), (Ok(0.1), Ok(0.25)));
        assert!(fraction("101%").is_err() && fraction("x").is_err() && fraction("NaN").is_err());
        assert!(count("0").is_err() && count("3") == Ok(3));
    }

    #[test]
    fn reads_peers() {
        assert_eq!(peer("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(peer("cache-1.local:8001").unwrap().port, 8001);
        for text in ["", "a", "a:", ":1", "a:0", "a:65536", "::1:80", "a b:1", "a/b:1"] {
            assert!(peer(text).is_err(), "{text}");
        }
    }
}
