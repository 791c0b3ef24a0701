//! The Date of responses (RFC 9110, section 6.6.1) once the wall clock was set back.
//!
//! hyper writes Date from a text that each thread renews when the clock has passed the second in it. After a step back that
//! text would stay until the clock is there again; meanwhile the header is written here.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use hyper::HeaderMap;
use hyper::header::{DATE, HeaderValue};
use tokio::time::sleep;

/// The time between two looks at the wall clock: so long after a step Date may be wrong.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// hyper's text may be from just before the next look, and lasts for a second.
const AHEAD: Duration = LOOKS_EVERY.saturating_add(Duration::from_secs(1));
/// A smaller step back, as of a clock that is corrected, is left to hyper.
const SMALL: Duration = Duration::from_secs(1);

/// Whether hyper's texts are ahead of the wall clock. They are the threads', so this is the process's.
static IS_BACK: AtomicBool = AtomicBool::new(false);

/// The latest that the wall clock was, before it was set back.
struct Latest {
    at: SystemTime,
    is_back: bool,
}

impl Latest {
    /// Looks at the clock; whether it is behind what it was.
    fn look(&mut self, now: SystemTime) -> bool {
        self.is_back = match self.is_back {
            true => now < self.at + AHEAD,
            false => now + SMALL < self.at,
        };
        if !self.is_back {
            self.at = self.at.max(now);
        }
        self.is_back
    }
}

/// Follows the wall clock, without an end.
pub(super) async fn follow() {
    let mut latest = Latest { at: SystemTime::now(), is_back: false };
    loop {
        sleep(LOOKS_EVERY).await;
        IS_BACK.store(latest.look(SystemTime::now()), Relaxed);
    }
}

/// Sets Date where hyper would set an old one.
pub(super) fn correct(headers: &mut HeaderMap) {
    if IS_BACK.load(Relaxed) {
        set(headers, SystemTime::now());
    }
}

#[cold]
fn set(headers: &mut HeaderMap, now: SystemTime) {
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
        headers.insert(DATE, date);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_is_followed_until_it_is_where_it_was() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut latest = Latest { at: at(1000), is_back: false };
        assert!(!latest.look(at(1001)) && !latest.look(at(1002)));
        assert!(!latest.look(at(1001)), "a small step");
        assert!(latest.look(at(500)) && latest.look(at(501)) && latest.look(at(1002)));
        assert!(latest.look(at(1003)), "hyper's text may be of 1003");
        assert!(!latest.look(at(1004)) && !latest.look(at(1005)));
        assert!(!latest.look(at(9000)), "a step forward is followed by hyper");
        assert!(latest.look(at(1006)), "and the step back from there here");
    }

    #[test]
    fn the_date_is_that_of_the_wall_clock() {
        let mut headers = HeaderMap::new();
        set(&mut headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(headers[DATE], "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
