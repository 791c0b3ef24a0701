//! The picture: plots above, a row per node below, and a last line with the key to leave or the error of the last poll.

use std::collections::VecDeque;
use std::time::SystemTime;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table};

use super::history::History;
use crate::samples::{NodeSample, Sample};

/// The columns after name and state, with their widths; the last ones are left out where the terminal is too narrow.
const COLUMNS: [(&str, u16); 7] =
    [("req/s", 7), ("hits", 6), ("stale", 6), ("errors", 7), ("in flight", 9), ("memory", 8), ("why", 24)];
/// The least and the greatest width of the plot in a row.
const PLOT: (u16, u16) = (5, 24);
/// The least and the greatest height of the plots above the rows, frame included.
const HEIGHT: (u16, u16) = (3, 6);
/// The steps of a plot with the height of one line.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The settings of the picture.
pub(super) struct Screen {
    /// The name of the watched node.
    pub(super) peer: String,
    /// False with NO_COLOR. No meaning is in colours alone.
    pub(super) has_colours: bool,
}

impl Screen {
    /// Draws the history at this time. Where there is no room for both, nodes are shown and plots are not.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, history: &History, date: SystemTime) {
        let area = frame.area();
        let nodes = history.last.as_ref().map(|sample| sample.nodes.as_slice()).unwrap_or_default();
        let rows = u16::try_from(nodes.len()).unwrap_or(u16::MAX).saturating_add(1);
        let room = area.height.saturating_sub(2).saturating_sub(rows);
        let high = if room < HEIGHT.0 { 0 } else { room.min(HEIGHT.1) };
        let rows =
            [Constraint::Length(1), Constraint::Length(high), Constraint::Min(1), Constraint::Length(1)];
        let [head, plots, table, foot] = Layout::vertical(rows).areas(area);
        let [left, right] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(plots);
        frame.render_widget(Paragraph::new(self.head(history, head.width)), head);
        let rates = history.rates;
        self.plot(frame, left, &format!(" {:.0} requests/s ", rates.requests), &history.requests, None);
        self.plot(
            frame,
            right,
            &format!(" hit ratio {} ", percent(rates.hit_ratio)),
            &history.hits,
            Some(100),
        );
        let hidden = self.table(frame, table, history, nodes);
        frame.render_widget(Paragraph::new(self.foot(history, date, hidden)), foot);
    }

    /// The name of the node, and as many of its numbers as there is room for.
    fn head(&self, history: &History, width: u16) -> Line<'static> {
        let Some(sample) = &history.last else {
            return Line::from(format!(" {}", self.peer)).style(Modifier::BOLD);
        };
        let name = format!(" {} {}", sample.role, self.peer);
        let parts = [
            format!("{:.0} requests", sample.counts.requests.unwrap_or(0.0)),
            format!("{:.0} errors", sample.counts.errors.unwrap_or(0.0)),
            format!("{:.0} in flight", sample.in_flight),
            detail(sample),
            sample.changes.clone(),
            if sample.start_time.is_empty() { String::new() } else { format!("since {}", sample.start_time) },
        ];
        let mut room = usize::from(width).saturating_sub(name.len());
        let mut text = String::new();
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let Some(left) = room.checked_sub(part.chars().count() + 3) else { break };
            room = left;
            text.push_str(" · ");
            text.push_str(part);
        }
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

    /// Draws a row for each node and returns the number of nodes without room; healthy ones are left out first.
    fn table(&self, frame: &mut Frame<'_>, area: Rect, history: &History, nodes: &[NodeSample]) -> usize {
        let room = usize::from(area.height.saturating_sub(1));
        let mut shown: Vec<&NodeSample> = nodes.iter().collect();
        if shown.len() > room {
            shown.sort_by_key(|node| node.is_well);
            shown.truncate(room);
        }
        let longest = |text: fn(&NodeSample) -> &str, least: usize| {
            let lengths = shown.iter().map(|node| text(node).chars().count());
            u16::try_from(lengths.max().unwrap_or(0).max(least)).unwrap_or(u16::MAX)
        };
        let mut widths = vec![longest(|node| &node.name, 4), longest(|node| &node.state, 5)];
        let mut heads = vec!["node", "state"];
        let mut left = area.width.saturating_sub(widths[0].saturating_add(widths[1]).saturating_add(1));
        for (name, width) in COLUMNS {
            let Some(rest) = left.checked_sub(width + 1) else { break };
            left = rest;
            heads.push(name);
            widths.push(width);
        }
        let columns = heads.len();
        let plot = left.saturating_sub(1).min(PLOT.1);
        if columns == COLUMNS.len() + 2 && plot >= PLOT.0 {
            heads.push("");
            widths.push(plot);
        }
        let rows = shown.iter().map(|node| self.row(node, history, columns, usize::from(plot)));
        let heads = Row::new(heads).style(Modifier::UNDERLINED);
        let table = Table::new(rows, widths.iter().map(|width| Constraint::Length(*width))).column_spacing(1);
        frame.render_widget(table.header(heads), area);
        nodes.len() - shown.len()
    }

    /// The first `columns` cells of a node, and its plot.
    fn row(&self, node: &NodeSample, history: &History, columns: usize, plot: usize) -> Row<'static> {
        let rates = history.node(&node.name);
        let state = match node.is_well {
            true => self.colour(Color::Green),
            false => self.colour(Color::Red).add_modifier(Modifier::BOLD),
        };
        let cells = [
            Cell::from(node.name.clone()),
            Cell::from(node.state.clone()).style(state),
            Cell::from(format!("{:.0}", rates.requests)),
            Cell::from(percent(rates.hit_ratio)),
            Cell::from(percent(rates.stale_ratio)),
            Cell::from(format!("{:.0}", node.counts.errors.unwrap_or(0.0))),
            Cell::from(format!("{:.0}", node.in_flight)),
            Cell::from(node.bytes.map_or("-".to_owned(), memory)),
            Cell::from(if node.origin_fails { "the origin fails".to_owned() } else { node.why.clone() }),
        ];
        let requests = history.by_node.get(&node.name);
        let steps = Cell::from(requests.map(|requests| steps(requests, plot)).unwrap_or_default());
        Row::new(cells.into_iter().take(columns).chain([steps]))
    }

    /// The last line. The key to leave comes first: a narrow terminal cuts the end.
    fn foot(&self, history: &History, date: SystemTime, hidden: usize) -> Line<'static> {
        match &history.silence {
            None if hidden > 0 => Line::from(format!(" q leaves · no room for {hidden} more")),
            None => Line::from(" q leaves"),
            Some((since, why)) => {
                let seconds = date.duration_since(*since).map_or(0, |silence| silence.as_secs());
                let text = format!(" q leaves · no answer since {} ({seconds} s): {why}", clock(*since));
                Line::from(text).style(self.colour(Color::Red).add_modifier(Modifier::BOLD))
            }
        }
    }

    fn colour(&self, colour: Color) -> Style {
        if self.has_colours { Style::default().fg(colour) } else { Style::default() }
    }
}

/// A balancer's strategy, or the number of entries in a proxy's cache.
fn detail(sample: &Sample) -> String {
    let entries = sample.nodes.first().and_then(|node| node.entries).unwrap_or(0.0);
    match (&sample.strategy, sample.role) {
        (Some(strategy), _) => strategy.clone(),
        (None, "proxy") => format!("{entries} entries"),
        (None, _) => String::new(),
    }
}

/// The time of the day, in UTC.
fn clock(date: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(date).to_string();
    text.get(11..19).map_or(text.clone(), |time| format!("{time} UTC"))
}

/// Bytes in MiB.
fn memory(bytes: f64) -> String {
    format!("{:.1} M", bytes / f64::from(1 << 20))
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{:.1}%", ratio * 100.0))
}

/// A plot of the last points, one line high.
fn steps(points: &VecDeque<u64>, width: usize) -> String {
    let most = points.iter().copied().max().unwrap_or(0).max(1);
    let step = |point: &u64| (point * (STEPS.len() as u64 - 1)).div_ceil(most) as usize;
    let last = points.iter().skip(points.len().saturating_sub(width));
    last.map(|point| STEPS[step(point).min(STEPS.len() - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use tokio::time::Instant;

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
        history.add(Sample::from_reply(line, "x"), Instant::now(), SystemTime::UNIX_EPOCH);
        let shown = drawn(&history, 100, 20);
        for text in ["balancer 127.0.0.1:9000", "a:1", "healthy", "b:2", "down", "q leaves"] {
            assert!(shown.contains(text), "{text} in {shown}");
        }
        let origin = br#"{"status":"OK","data":{"changes":{"watchers":16,"everywhere_seconds":0.012}}}"#;
        history.add(Sample::from_reply(origin, "x"), Instant::now(), SystemTime::UNIX_EPOCH);
        assert!(drawn(&history, 120, 20).contains("16 told of changes, everywhere in 12 ms"));
        history.add(Err("nothing listens".into()), Instant::now(), SystemTime::UNIX_EPOCH);
        assert!(drawn(&history, 100, 20).contains("no answer since 00:00:00 UTC"));
        for (width, height) in [(1, 1), (5, 2), (20, 5), (300, 100)] {
            drawn(&history, width, height);
            drawn(&History::default(), width, height);
        }
    }

    /// The history of a balancer over this many proxies, the last of them down.
    fn balancer(proxies: usize) -> History {
        let node = |index: usize| {
            let healthy = index + 1 < proxies;
            let state = if healthy { "healthy" } else { "down" };
            format!(r#""127.0.0.1:80{index:02}":{{"healthy":{healthy},"state":"{state}","metrics":null}}"#)
        };
        let nodes: Vec<String> = (0..proxies).map(node).collect();
        let line = format!(
            r#"{{"status":"OK","data":{{"strategy":"round_robin","start_time":"2026-11-25T07:25:48Z","total_requests":5138376,"failures":12,"proxies":{{{}}}}}}}"#,
            nodes.join(",")
        );
        let mut history = History::default();
        history.add(Sample::from_reply(line.as_bytes(), "x"), Instant::now(), SystemTime::UNIX_EPOCH);
        history
    }

    #[test]
    fn a_small_terminal_shows_names_states_and_the_key_to_leave() {
        let (three, many) = (balancer(3), balancer(40));
        let small = drawn(&three, 40, 10);
        for text in
            ["127.0.0.1:8000 ", "127.0.0.1:8002 ", "healthy ", "down ", "req/s", "requests/s", "q leaves"]
        {
            assert!(small.contains(text), "{text} in {small}");
        }
        let usual = drawn(&three, 80, 24);
        for text in ["5138376 requests · 12 errors · 0 in flight", "in flight", "errors"] {
            assert!(usual.contains(text), "{text} in {usual}");
        }
        assert!(!usual.contains("since"), "half a date: {usual}");
        assert!(drawn(&three, 120, 24).contains("round_robin · since 2026-11-25T07:25:48Z"));
        let full = drawn(&many, 80, 24);
        assert!(full.contains("down") && full.contains("no room for 19 more"), "{full}");
    }

    #[test]
    fn steps_go_from_low_to_high() {
        assert_eq!(steps(&VecDeque::from([0, 1, 50, 100]), 9), "▁▂▅█");
        assert_eq!(steps(&VecDeque::from([0, 1, 50, 100]), 2), "▅█");
        assert_eq!(steps(&VecDeque::from([0, 0]), 9), "▁▁");
    }
}
