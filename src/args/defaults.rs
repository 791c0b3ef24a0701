//! Defaults of the roles as text that could be typed: `2.5s`, `256MiB`, `10%`. The help shows them so.

use std::fmt::Display;
use std::time::Duration;

/// A duration in the unit that people would choose: `1h`, `5m`, `60s`, `2.5s`, `500ms`, `0`.
pub(super) fn time(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, 0) => "0".to_owned(),
        (0, millis) => format!("{millis}ms"),
        (seconds, 0) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 && seconds > 60 => format!("{}m", seconds / 60),
        _ => format!("{}s", duration.as_secs_f64()),
    }
}

/// A size in bytes, in the largest unit that divides it: `1MiB`.
pub fn size(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A part of a whole: `10%`.
pub(super) fn fraction(part: f64) -> String {
    format!("{}%", part * 100.0)
}

/// `on` or `off`.
pub(super) fn switch(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// A comma list.
pub(super) fn list(values: &[impl Display]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::units;
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        for (millis, text) in [
            (0, "0"),
            (500, "500ms"),
            (1_000, "1s"),
            (2_500, "2.5s"),
            (60_000, "60s"),
            (90_000, "90s"),
            (300_000, "5m"),
            (3_600_000, "1h"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(time(duration), text);
            assert_eq!(units::duration(text), Ok(duration));
        }
        for (bytes, text) in [(1 << 20, "1MiB"), (256 << 20, "256MiB"), (1536 << 10, "1536KiB"), (100, "100")]
        {
            assert_eq!(size(bytes), text);
            assert_eq!(units::size(text), Ok(bytes));
        }
        assert_eq!((fraction(0.1), units::fraction("10%")), ("10%".to_owned(), Ok(0.1)));
        assert_eq!((units::switch(switch(true)), units::switch(switch(false))), (Ok(true), Ok(false)));
        assert_eq!(list(&["a", "b"]), "a,b");
    }
}
