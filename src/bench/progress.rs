//! How far a run is, shown on standard error while it runs; on a terminal only.

use std::fmt::Write;
use std::io::stderr;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::feed::Window;
use super::worker::Worker;
use crate::terminal::{can_draw, no_colour};

/// How often it is drawn anew.
pub(super) const EVERY: Duration = Duration::from_millis(200);

/// A bar over the time, or over the requests.
pub(super) struct Progress {
    bar: ProgressBar,
    window: Window,
    requests: Option<u64>,
    /// Replies that had come when it was drawn last, and when that was.
    drawn: (u64, Instant),
}

impl Progress {
    /// Draws nothing unless standard error is a terminal. Colours are left out where `NO_COLOR` is set.
    pub(super) fn new(window: Window, requests: Option<u64>) -> Self {
        let span = window.end.map(|end| end.duration_since(window.start).as_millis() as u64);
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
        Self { bar, window, requests, drawn: (0, window.start) }
    }

    /// Draws how far the workers are.
    pub(super) fn draw(&mut self, workers: &[std::sync::Arc<Worker>]) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        let (mut requests, mut came, mut errors) = (0, 0, 0);
        for worker in workers {
            let tally = &worker.state().tally;
            requests += tally.requests();
            came += tally.in_window;
            errors += tally.errors();
        }
        let at = match self.requests {
            Some(_) => requests,
            None => now.duration_since(self.window.start).as_millis() as u64,
        };
        let mut text = String::from("warming up");
        if now >= self.window.begin {
            let seconds = now.duration_since(self.drawn.1).as_secs_f64();
            let rate = came.saturating_sub(self.drawn.0) as f64 / seconds.max(1e-3);
            text = format!("{} replies, {}/s", HumanCount(came), HumanCount(rate as u64));
            if errors > 0 {
                let _ = write!(text, ", {} errors", HumanCount(errors));
            }
        }
        self.drawn = (came, now);
        self.bar.set_position(at);
        self.bar.set_message(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
