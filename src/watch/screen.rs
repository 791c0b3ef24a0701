//! The picture: plots above, a row per node below, and at the foot how to leave or what is amiss.

use std::collections::VecDeque;
use std::time::SystemTime;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};

use super::history::{History, Rates};

/// The columns of the table, with how wide they are.
const COLUMNS: [(&str, Constraint); 7] = [
    ("node", Constraint::Min(16)),
    ("state", Constraint::Length(12)),
    ("in flight", Constraint::Length(9)),
    ("req/s", Constraint::Length(9)),
    ("hits", Constraint::Length(6)),
    ("errors", Constraint::Length(8)),
    ("", Constraint::Length(24)),
];
/// The steps of a plot that is one line high.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How a view looks.
pub(super) struct Screen {
    /// Whom it watches.
    pub(super) peer: String,
    /// False with NO_COLOR: what colour says is said in words as well.
    pub(super) has_colours: bool,
}

impl Screen {
    /// Draws what the history says at this time.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, history: &History, date: SystemTime) {
        let rows = [Constraint::Length(1), Constraint::Length(6), Constraint::Min(3), Constraint::Length(1)];
        let [head, plots, table, foot] = Layout::vertical(rows).areas(frame.area());
        let [left, right] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(plots);
        frame.render_widget(Paragraph::new(self.head(history)), head);
        let rates = history.all.rates;
        self.plot(frame, left, &format!(" {:.0} requests/s ", rates.requests), &history.all.requests, None);
        self.plot(frame, right, &format!(" hit ratio {} ", percent(rates)), &history.all.hits, Some(100));
        self.table(frame, table, history);
        frame.render_widget(Paragraph::new(self.foot(history, date)), foot);
    }

    fn head(&self, history: &History) -> Line<'static> {
        let Some(sample) = &history.last else {
            return Line::from(format!(" {}", self.peer)).style(Modifier::BOLD);
        };
        let name = format!(" {} {}", sample.role, self.peer);
        let mut text = String::new();
        for part in [&sample.detail, &sample.start_time].into_iter().filter(|part| !part.is_empty()) {
            text.push_str(" · ");
            text.push_str(part);
        }
        text.push_str(&format!(
            " · {:.0} requests, {:.0} errors, {:.0} in flight",
            sample.all.requests, sample.all.errors, sample.in_flight
        ));
        Line::from(vec![Span::styled(name, Modifier::BOLD), Span::raw(text)])
    }

    fn plot(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        title: &str,
        points: &VecDeque<u64>,
        most: Option<u64>,
    ) {
        let room = usize::from(area.width.saturating_sub(2));
        let shown: Vec<u64> = points.iter().skip(points.len().saturating_sub(room)).copied().collect();
        let plot = Sparkline::default()
            .block(Block::default().borders(Borders::ALL).title(title.to_owned()))
            .data(shown)
            .max(most.unwrap_or_else(|| points.iter().copied().max().unwrap_or(0).max(1)))
            .style(self.colour(Color::Cyan));
        frame.render_widget(plot, area);
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect, history: &History) {
        let heads = Row::new(COLUMNS.map(|(name, _)| name)).style(Modifier::UNDERLINED);
        let nodes = history.last.as_ref().map(|sample| sample.nodes.as_slice()).unwrap_or_default();
        let rows = nodes.iter().map(|node| {
            let track = history.nodes.get(&node.name);
            let rates = track.map(|track| track.rates).unwrap_or_default();
            let state = match node.is_well {
                true => self.colour(Color::Green),
                false => self.colour(Color::Red).add_modifier(Modifier::BOLD),
            };
            Row::new([
                Cell::from(node.name.clone()),
                Cell::from(node.state.clone()).style(state),
                Cell::from(format!("{:.0}", node.in_flight)),
                Cell::from(format!("{:.0}", rates.requests)),
                Cell::from(percent(rates)),
                Cell::from(format!("{:.0}", node.counts.errors)),
                Cell::from(track.map(|track| steps(&track.requests)).unwrap_or_default()),
            ])
        });
        let table = Table::new(rows, COLUMNS.map(|(_, width)| width)).header(heads).column_spacing(1);
        frame.render_widget(table, area);
    }

    fn foot(&self, history: &History, date: SystemTime) -> Line<'static> {
        match &history.silence {
            None => Line::from(" q leaves"),
            Some((since, why)) => {
                let seconds = date.duration_since(*since).map_or(0, |silence| silence.as_secs());
                let text = format!(" no answer since {} ({seconds} s): {why} · q leaves", clock(*since));
                Line::from(text).style(self.colour(Color::Red).add_modifier(Modifier::BOLD))
            }
        }
    }

    fn colour(&self, colour: Color) -> Style {
        if self.has_colours { Style::default().fg(colour) } else { Style::default() }
    }
}

/// The time of the day, in UTC.
fn clock(date: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(date).to_string();
    text.get(11..19).map_or(text.clone(), |time| format!("{time} UTC"))
}

fn percent(rates: Rates) -> String {
    rates.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.1}%", ratio * 100.0))
}

/// A plot one line high.
fn steps(points: &VecDeque<u64>) -> String {
    let most = points.iter().copied().max().unwrap_or(0).max(1);
    let step = |point: &u64| (point * (STEPS.len() as u64 - 1)).div_ceil(most) as usize;
    points.iter().map(|point| STEPS[step(point).min(STEPS.len() - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use tokio::time::Instant;

    use super::super::sample;
    use super::*;

    fn drawn(history: &History, width: u16, height: u16) -> String {
        let screen = Screen { peer: "127.0.0.1:9000".into(), has_colours: false };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame, history, SystemTime::UNIX_EPOCH)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn shows_every_node_and_any_size_will_do() {
        let mut history = History::default();
        let line = br#"{"status":"OK","data":{"strategy":"round_robin","proxies":{"a:1":{"healthy":true,"metrics":{"hits":3,"misses":1}},"b:2":{"healthy":false,"metrics":null}}}}"#;
        history.add(sample::read(line, "x"), Instant::now(), SystemTime::UNIX_EPOCH);
        let shown = drawn(&history, 100, 20);
        for text in ["balancer 127.0.0.1:9000", "a:1", "healthy", "b:2", "down", "q leaves"] {
            assert!(shown.contains(text), "{text} in {shown}");
        }
        history.add(Err("nothing listens".into()), Instant::now(), SystemTime::UNIX_EPOCH);
        assert!(drawn(&history, 100, 20).contains("no answer since 00:00:00 UTC"));
        for (width, height) in [(1, 1), (5, 2), (20, 5), (300, 100)] {
            drawn(&history, width, height);
            drawn(&History::default(), width, height);
        }
    }

    #[test]
    fn steps_go_from_low_to_high() {
        assert_eq!(steps(&VecDeque::from([0, 1, 50, 100])), "▁▂▅█");
        assert_eq!(steps(&VecDeque::from([0, 0])), "▁▁");
    }
}
