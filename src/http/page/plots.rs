//! The plots of the last ten minutes, drawn by plotters as SVG.
//!
//! The style sheet maps the placeholder colours to those of its theme, so that one drawing serves light and dark. A plot
//! contains numbers and the words below, and no text from outside.

use std::collections::VecDeque;

use plotters::prelude::*;
use serde::Serialize;

use super::history::{POINTS, Point};

const SIZE: (u32, u32) = (400, 150);
/// Points of the history per point of a plot.
const STEP: usize = 3;
/// Placeholders; see `style.css`.
const LINES: [RGBColor; 3] = [RGBColor(1, 1, 1), RGBColor(2, 2, 2), RGBColor(3, 3, 3)];
const AREA: RGBColor = RGBColor(4, 4, 4);
const GRID: RGBColor = RGBColor(8, 8, 8);
const WORDS: RGBColor = RGBColor(9, 9, 9);

/// A drawn plot, with the name of its place on the page.
#[derive(Serialize)]
pub(super) struct Plot {
    name: &'static str,
    svg: String,
}

/// One line: its points from the oldest to the newest, with gaps.
type Line = Vec<Option<f64>>;

/// All plots.
pub(super) fn draw(points: &VecDeque<Point>) -> Vec<Plot> {
    let line = |value: &dyn Fn(&Point) -> Option<f64>| thinned(points, value);
    let plots = [
        ("rate", vec![line(&|point| Some(point.rate))], Unit::Count),
        ("hit_ratio", vec![line(&|point| point.hit_ratio), line(&|point| point.stale_ratio)], Unit::Part),
        (
            "latency",
            (0..3).map(|i| line(&|point| point.latency.map(|latency| latency[i]))).collect(),
            Unit::Time,
        ),
        ("fetch_rate", vec![line(&|point| Some(point.fetch_rate))], Unit::Count),
        ("in_flight", vec![line(&|point| Some(point.in_flight))], Unit::Count),
    ];
    let drawn = plots.into_iter().map(|(name, lines, unit)| {
        // Drawing into a string fails only by a mistake in this file; the page then shows no plot.
        let svg = plot(&lines, unit).unwrap_or_default();
        Plot { name, svg }
    });
    drawn.collect()
}

/// The unit of a plot's numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    /// 0 to 1.
    Part,
    /// Seconds.
    Time,
}

impl Unit {
    fn label(self, value: f64) -> String {
        match self {
            Unit::Part => format!("{:.0} %", value * 100.0),
            Unit::Time if value == 0.0 => "0".to_owned(),
            Unit::Time if value < 0.001 => format!("{} µs", trimmed(value * 1e6)),
            Unit::Time if value < 1.0 => format!("{} ms", trimmed(value * 1e3)),
            Unit::Time => format!("{} s", trimmed(value)),
            Unit::Count if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
            Unit::Count if value >= 1e3 => format!("{}k", trimmed(value / 1e3)),
            Unit::Count => trimmed(value),
        }
    }

    /// The top of the scale for this greatest value: a round number, so that it changes rarely.
    fn top(self, most: f64) -> f64 {
        let least = match self {
            Unit::Part => return 1.0,
            Unit::Count => 4.0,
            Unit::Time => 0.000_1,
        };
        let most = most.max(least) * 1.05;
        let decade = 10_f64.powf(most.log10().floor());
        let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
        steps.iter().map(|step| step * decade).find(|top| *top >= most).unwrap_or(10.0 * decade)
    }
}

/// A number with at most one digit after the point, without `.0`.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn thinned(points: &VecDeque<Point>, value: &dyn Fn(&Point) -> Option<f64>) -> Line {
    let values: Vec<Option<f64>> = points.iter().map(value).collect();
    // From the newest back: so a group of points stays together, and the plot moves as a whole.
    let mut line: Line = values
        .rchunks(STEP)
        .map(|chunk| {
            let known: Vec<f64> = chunk.iter().flatten().copied().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        })
        .collect();
    line.reverse();
    line
}

fn plot(lines: &[Line], unit: Unit) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let most = lines.iter().flatten().flatten().copied().fold(0.0, f64::max);
        let top = unit.top(most);
        let oldest = -((POINTS / STEP) as f64);
        let words = |size: u32| ("sans-serif", size).into_font().color(&WORDS);
        let mut chart = ChartBuilder::on(&root)
            .margin_top(10)
            .margin_right(16)
            .x_label_area_size(22)
            .y_label_area_size(54)
            .build_cartesian_2d(oldest..0.0, 0.0..top)
            .map_err(|error| error.to_string())?;
        let minutes = |x: &f64| match (x * STEP as f64 / 60.0).round() {
            0.0 => "now".to_owned(),
            minutes => format!("{minutes} min"),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(3)
            .y_labels(4)
            .max_light_lines(0)
            .bold_line_style(GRID.stroke_width(1))
            .axis_style(GRID.stroke_width(1))
            .x_label_formatter(&minutes)
            .y_label_formatter(&|y| unit.label(*y))
            .x_label_style(words(12))
            .y_label_style(words(12))
            .draw()
            .map_err(|error| error.to_string())?;
        let single = lines.len() == 1;
        for (line, color) in lines.iter().zip(LINES) {
            for run in unbroken(line) {
                if single {
                    let area = AreaSeries::new(run.clone(), 0.0, AREA.mix(0.12));
                    chart.draw_series(area).map_err(|error| error.to_string())?;
                }
                let line = LineSeries::new(run, color.stroke_width(2));
                chart.draw_series(line).map_err(|error| error.to_string())?;
            }
        }
        root.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

/// The parts of a line between its gaps, as (x, value); the newest point is at x = 0.
fn unbroken(line: &Line) -> Vec<Vec<(f64, f64)>> {
    let first = 1.0 - line.len() as f64;
    let placed = line.iter().enumerate().map(|(i, value)| value.map(|value| (first + i as f64, value)));
    let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    for point in placed {
        match (point, runs.last_mut()) {
            (Some(point), Some(run)) => run.push(point),
            (None, Some(run)) if !run.is_empty() => runs.push(Vec::new()),
            _ => {}
        }
    }
    runs.retain(|run| run.len() > 1);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_without_style_or_script() {
        let point =
            Point { rate: 1234.0, hit_ratio: None, latency: Some([0.001, 0.002, 0.05]), ..Point::default() };
        let points: VecDeque<Point> = std::iter::repeat_n(point, POINTS).collect();
        for plot in draw(&points) {
            assert!(
                plot.svg.starts_with("<svg") && plot.svg.len() < 30_000,
                "{} {}",
                plot.name,
                plot.svg.len()
            );
            assert!(!plot.svg.contains("style=") && !plot.svg.contains("<script"), "{}", plot.name);
        }
        assert!(draw(&VecDeque::new()).iter().all(|plot| plot.svg.starts_with("<svg")));
    }

    #[test]
    fn labels_are_short_and_tops_round() {
        assert_eq!(Unit::Count.label(12_500.0), "12.5k");
        assert_eq!(Unit::Time.label(0.000_25), "250 µs");
        assert_eq!(Unit::Part.label(0.5), "50 %");
        assert_eq!((Unit::Count.top(0.0), Unit::Count.top(1234.0), Unit::Part.top(0.2)), (6.0, 2000.0, 1.0));
    }

    #[test]
    fn gaps_part_a_line() {
        let line = vec![Some(1.0), Some(2.0), None, Some(3.0), None, None, Some(4.0), Some(5.0)];
        assert_eq!(unbroken(&line), [vec![(-7.0, 1.0), (-6.0, 2.0)], vec![(-1.0, 4.0), (0.0, 5.0)]]);
    }
}
