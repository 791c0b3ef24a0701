//! The values of a time span that ends now, to compare the newest with the oldest.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The values of one span, at least the newest two.
#[derive(Debug)]
pub struct SlidingWindow<T>(VecDeque<(Instant, T)>);

impl<T> Default for SlidingWindow<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> SlidingWindow<T> {
    /// Adds the newest value. Returns the oldest value within `span` and its age in seconds; `None` for the first value.
    pub fn push(&mut self, now: Instant, value: T, span: Duration) -> Option<(&T, f64)> {
        while self.0.len() > 1 && now - self.0[0].0 > span {
            self.0.pop_front();
        }
        self.0.push_back((now, value));
        let (then, oldest) = self.0.front()?;
        let seconds = (now - *then).as_secs_f64();
        (seconds > 0.0).then_some((oldest, seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_with_the_oldest_in_the_window() {
        let (mut window, start, span) = (SlidingWindow::default(), Instant::now(), Duration::from_secs(3));
        assert!(window.push(start, 0, span).is_none());
        for second in 1..10_u64 {
            let now = start + Duration::from_secs(second);
            let found = window.push(now, second, span).map(|(then, s)| (*then, s));
            assert_eq!(found, Some((second.saturating_sub(3), second.min(3) as f64)));
        }
    }
}
