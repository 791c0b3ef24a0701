//! From numbers that only grow to rates: over a window, and across restarts of who counts them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Sums up a number of another node, which begins anew when that node does.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Sum {
    last: Option<f64>,
    total: f64,
}

impl Sum {
    /// The node says so now; nothing when it says nothing. Tells by how much the sum grew.
    pub(super) fn hear(&mut self, told: Option<f64>) -> f64 {
        let Some(now) = told else { return 0.0 };
        // What was counted before we first heard of it is not ours to show.
        let grown = match self.last {
            None => 0.0,
            Some(last) if now >= last => now - last,
            Some(_) => now,
        };
        self.last = Some(now);
        self.total += grown;
        grown
    }

    pub(super) fn total(&self) -> f64 {
        self.total
    }
}

/// The values of the last while, to compare the newest with.
#[derive(Debug)]
pub(super) struct Window<T> {
    span: Duration,
    held: VecDeque<(Instant, T)>,
}

impl<T> Window<T> {
    pub(super) fn new(span: Duration) -> Self {
        Self { span, held: VecDeque::new() }
    }

    /// Takes in the newest value; gives the oldest within the window and how long ago it was, once there is one.
    pub(super) fn push(&mut self, now: Instant, value: T) -> Option<(&T, f64)> {
        while self.held.len() > 1 && now - self.held[0].0 > self.span {
            self.held.pop_front();
        }
        self.held.push_back((now, value));
        let (then, oldest) = self.held.front()?;
        let seconds = (now - *then).as_secs_f64();
        (seconds > 0.0).then_some((oldest, seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_no_fall() {
        let mut sum = Sum::default();
        assert_eq!(sum.hear(Some(100.0)), 0.0);
        assert_eq!(sum.hear(Some(110.0)), 10.0);
        assert_eq!(sum.hear(None), 0.0);
        assert_eq!(sum.hear(Some(5.0)), 5.0);
        assert_eq!(sum.total(), 15.0);
    }

    #[test]
    fn compares_with_the_oldest_in_the_window() {
        let mut window = Window::new(Duration::from_secs(3));
        let start = Instant::now();
        assert!(window.push(start, 0).is_none());
        for second in 1..10_u64 {
            let found = window.push(start + Duration::from_secs(second), second).map(|(then, s)| (*then, s));
            assert_eq!(found, Some((second.saturating_sub(3), second.min(3) as f64)));
        }
    }
}
