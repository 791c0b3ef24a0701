//! A progress bar on standard error while a run lasts, if that is a terminal.

use std::fmt::Write;
use std::io::stderr;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::schedule::RunTimes;
use super::worker::Worker;
use crate::terminal::{can_draw, no_colour};

/// How often the bar is drawn.
pub(super) const EVERY: Duration = Duration::from_millis(200);

/// A bar that fills with the time, or with the number of requests, whichever ends the run.
pub(super) struct Progress {
    bar: ProgressBar,
    times: RunTimes,
    requests: Option<u64>,
    /// The number of replies at the last drawing, and its time.
    last_drawn: (u64, Instant),
}

impl Progress {
    /// Invisible unless standard error is a terminal; without colours where `NO_COLOR` is set.
    pub(super) fn new(times: RunTimes, requests: Option<u64>) -> Self {
        let span = times.end.map(|end| end.duration_since(times.start).as_millis() as u64);
        let length = span.or(requests).unwrap_or(1);
        let target = match can_draw(&stderr()) {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        let template = match no_colour() {
            true => "{elapsed_precise} [{bar:30}] {msg}",
            false => "{elapsed_precise} [{bar:30.cyan}] {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, times, requests, last_drawn: (0, times.start) }
    }

    pub(super) fn draw(&mut self, workers: &[std::sync::Arc<Worker>]) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        let (mut requests, mut replies, mut errors) = (0, 0, 0);
        for worker in workers {
            let measurements = &worker.state().measurements;
            requests += measurements.requests();
            replies += measurements.replies_measured;
            errors += measurements.errors();
        }
        let at = match self.requests {
            Some(_) => requests,
            None => now.duration_since(self.times.start).as_millis() as u64,
        };
        let mut text = String::from("warming up");
        if now >= self.times.measured_from {
            let seconds = now.duration_since(self.last_drawn.1).as_secs_f64();
            let rate = replies.saturating_sub(self.last_drawn.0) as f64 / seconds.max(1e-3);
            text = format!("{} replies, {}/s", HumanCount(replies), HumanCount(rate as u64));
            if errors > 0 {
                let _ = write!(text, ", {} errors", HumanCount(errors));
            }
        }
        self.last_drawn = (replies, now);
        self.bar.set_position(at);
        self.bar.set_message(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
