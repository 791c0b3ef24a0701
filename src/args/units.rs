//! Values as people write them: `250ms`, `30s`, `5m`; `64KiB`, `256MiB`; `10%`; `host:port`.
//!
//! Each has an upper bound too, so that no sum or product of settings overflows further in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::IntErrorKind;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::net::LinkLimits;
use crate::net::link::{Peer, PeerError};
use crate::wire::served::is_node_name;

/// The longest time that a setting may be, in seconds: a century.
const LONGEST: f64 = 36_500.0 * 86_400.0;
/// The most that a count may be.
const MOST: usize = 1_000_000_000_000;

/// A duration: `250ms`, `30s`, `5m`, `1h`; a bare number is seconds, with a fraction if need be.
pub fn duration(text: &str) -> Result<Duration, String> {
    /// Not all that humantime takes: its `M` is a month.
    const UNITS: [&str; 14] =
        ["ns", "us", "ms", "s", "sec", "second", "seconds", "m", "min", "minutes", "h", "hours", "d", "days"];
    let shape = || "write a duration such as 250ms, 30s, 5m or 1h".to_owned();
    let mut units = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    if text.parse::<f64>().is_err() && !units.all(|unit| UNITS.contains(&unit)) {
        return Err(shape());
    }
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    // humantime takes whole numbers only; `2.5s` is what people write.
    let seconds = match (text.parse::<f64>(), number.parse::<f64>()) {
        (Ok(seconds), _) => seconds,
        (Err(_), Ok(number)) if number.fract() != 0.0 => {
            number * humantime::parse_duration(&format!("1{unit}")).map_err(|_| shape())?.as_secs_f64()
        }
        // Exactly, to the nanosecond.
        _ => match humantime::parse_duration(text).map_err(|_| shape())? {
            duration if duration.as_secs_f64() <= LONGEST => return Ok(duration),
            longer => longer.as_secs_f64(),
        },
    };
    match seconds {
        _ if seconds < 0.0 => Err("a duration is not negative".to_owned()),
        _ if seconds > LONGEST => Err("it must be 36500d at the most".to_owned()),
        _ => Duration::try_from_secs_f64(seconds).map_err(|_| shape()),
    }
}

/// A duration above 0.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("it must be longer than 0".to_owned()) } else { Ok(duration) }
}

/// A size in bytes: `64KiB`, `256MiB`, `1GB`; a bare number is bytes.
pub fn size(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize =
        text.parse().map_err(|_| "write a size such as 64KiB, 256MiB or 1GiB".to_owned())?;
    match isize::try_from(size.as_u64()) {
        Ok(0) => Err("it must be more than 0".to_owned()),
        Ok(size) => Ok(size.unsigned_abs()),
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

/// A filter of the log: levels, or modules with levels. A misspelt level is refused: as a module it would match nothing.
pub fn filter(text: &str) -> Result<String, String> {
    let is_sound = |part: &str| {
        let is_level = part.parse::<LevelFilter>().is_ok();
        is_level || part.is_empty() || part.contains(['=', '[']) || part.starts_with("dproxy")
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let text = parts.join(",");
    match parts.into_iter().all(is_sound) && EnvFilter::try_new(&text).is_ok() {
        true => Ok(text),
        false => Err("write info, debug, or parts such as dproxy::lb=debug".to_owned()),
    }
}

/// A count of at least one.
pub fn count(text: &str) -> Result<usize, String> {
    count_to(MOST, text)
}

/// A count of at least one and at most `most`.
pub fn count_to(most: usize, text: &str) -> Result<usize, String> {
    match text.trim().parse::<usize>() {
        Ok(0) => Err("write a whole number of at least 1".to_owned()),
        Ok(count) if count <= most => Ok(count),
        Ok(_) => Err(format!("it must be {most} at the most")),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            Err(format!("it must be {most} at the most"))
        }
        Err(_) => Err("write a whole number of at least 1".to_owned()),
    }
}

/// A count of requests in flight on one session.
pub fn in_flight(text: &str) -> Result<usize, String> {
    count_to(LinkLimits::MOST_IN_FLIGHT, text)
}

/// A count of threads or nodes, from 1 to 1024.
pub fn few() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1024)
}

/// A port to listen on, or 0.
pub fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| "write a port from 0 to 65535".to_owned())
}

/// A port to connect to, which is never 0.
pub fn port_there(text: &str) -> Result<u16, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| "write a port from 1 to 65535".to_owned())
}

/// An address of this machine, with brackets or without.
pub fn address(text: &str) -> Result<IpAddr, String> {
    match bare(text) {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        bare => bare
            .parse::<IpAddr>()
            .map(|address| address.to_canonical())
            .map_err(|_| "write an address of this machine, such as 127.0.0.1, 0.0.0.0 or ::1".to_owned()),
    }
}

/// A name or an address of a machine, the latter with brackets or without.
pub fn host(text: &str) -> Result<String, String> {
    let bare = bare(text);
    let is_sound = match bare.contains(':') {
        true => bare.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        false => !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)),
    };
    match is_sound {
        true => Ok(bare.to_owned()),
        false => Err(
            "write a name or an address alone, such as cache.example or ::1; the port is a flag of its own"
                .to_owned(),
        ),
    }
}

/// A name of a node.
pub fn node_name(text: &str) -> Result<String, String> {
    match is_node_name(text) {
        true => Ok(text.to_owned()),
        false => Err("write a letter and then letters, digits, dots or hyphens, 64 at the most".to_owned()),
    }
}

fn bare(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
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
        assert_eq!(duration("36500d").map(|century| century.as_secs()), Ok(LONGEST as u64));
        for text in ["", "x", "1 parsec", "NaN", "1.5x", ".", "1e3x", "5M", "1 month", "2y"] {
            assert!(duration(text).is_err_and(|why| why.contains("250ms")), "{text}");
        }
        for text in
            ["36501d", "1e30", "inf", "18446744073709551615s", "5124095576030431h", "9999999999999.5h"]
        {
            assert!(duration(text).is_err_and(|why| why.contains("at the most")), "{text}");
        }
        assert!(duration("-1").is_err_and(|why| why.contains("negative")));
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn reads_sizes_and_parts() {
        assert_eq!((size("64KiB"), size("256MiB"), size("100")), (Ok(65_536), Ok(268_435_456), Ok(100)));
        assert!(size("0").is_err() && size("x").is_err() && size("-1").is_err());
        assert!(size("99999999TiB").is_err() && size("8EiB").is_err() && size("7EiB").is_ok());
        assert_eq!((fraction("10%"), fraction("0.25")), (Ok(0.1), Ok(0.25)));
        assert!(fraction("101%").is_err() && fraction("x").is_err() && fraction("NaN").is_err());
        assert!(count("0").is_err() && count("3") == Ok(3));
        for text in ["1000000000001", "18446744073709551615", "99999999999999999999"] {
            assert!(count(text).is_err_and(|why| why.contains("at the most")), "{text}");
        }
    }

    #[test]
    fn reads_hosts_addresses_and_ports() {
        for (text, bare) in
            [("cache-1.local", "cache-1.local"), ("[::1]", "::1"), ("fe80::1%eth0", "fe80::1%eth0")]
        {
            assert_eq!(host(text).as_deref(), Ok(bare), "{text}");
        }
        for text in ["", "a b", "http://a", "a:80", "127.0.0.1:80", "[::1]:80", "a/b"] {
            assert!(host(text).is_err(), "{text}");
        }
        assert_eq!(address("[::1]"), Ok(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(
            address("::ffff:127.0.0.1"),
            Ok(Ipv4Addr::LOCALHOST.into()),
            "IPv4, however it is written"
        );
        assert_eq!(peer("[::ffff:127.0.0.1]:80").map(|peer| peer.to_string()), Ok("127.0.0.1:80".to_owned()));
        assert!(address("localhost").is_ok() && address("example.com").is_err());
        assert!(
            port("0").is_ok() && port_there("0").is_err() && port("65536").is_err() && port("-1").is_err()
        );
    }

    #[test]
    fn reads_filters() {
        for text in ["info", "off", "warn,dproxy::lb=debug", "dproxy", "hyper=trace", "info,[poll]=debug", ""]
        {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["degub", "=,=", "dproxy=loud", "info,verbose"] {
            assert!(filter(text).is_err(), "{text}");
        }
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
