//! Which cache type to choose: makes a trace, runs it through each type at several sizes, and draws the outcome.
//!
//! The trace is what a shop's catalogue sees: most requests are for few products, what is popular changes slowly, and now
//! and then a crawler reads everything in order. The same seed gives the same trace, so the plot can be made again.
//!
//! Run it: `cargo run --release --example miss_ratio -- miss-ratio.svg trace.txt`

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::io::Write;

use dproxy::proxy::cache::CacheType;
use dproxy::simulate::{Replay, run};
use plotters::prelude::*;

const KEYS: u32 = 40_000;
const REQUESTS: usize = 600_000;
/// Every so many requests a crawler reads so many keys in order.
const CRAWL_EVERY: usize = 60_000;
const CRAWL: u32 = 12_000;
/// Every so many requests two keys change places in popularity.
const AGE_EVERY: usize = 20;
const PERCENTS: [f64; 8] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let picture = args.next().unwrap_or_else(|| "miss-ratio.svg".to_owned());
    let keys = trace();
    if let Some(file) = args.next() {
        fs::write(&file, keys.join("\n") + "\n")?;
        writeln!(std::io::stdout(), "{file}: the trace, a key a line")?;
    }
    let mut outcomes = Vec::new();
    for cache_type in [CacheType::Ttl, CacheType::Lru, CacheType::S3fifo] {
        for percent in PERCENTS {
            let capacity = (f64::from(KEYS) * percent / 100.0) as usize;
            let keys = keys.iter().map(Ok::<_, Infallible>);
            let Ok(outcome) = run("catalogue", keys, cache_type, capacity, None, |_| ());
            outcomes.push((percent, outcome));
        }
    }
    draw(&picture, &outcomes)?;
    writeln!(std::io::stdout(), "{picture}: misses over cache size, for each cache type")?;
    Ok(())
}

/// One key a request.
fn trace() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(42);
    let mut keys = Vec::with_capacity(REQUESTS);
    let mut by_rank: Vec<u32> = (0..KEYS).collect();
    random.shuffle(&mut by_rank);
    while keys.len() < REQUESTS {
        if keys.len() % CRAWL_EVERY == CRAWL_EVERY - 1 {
            keys.extend((0..CRAWL).map(|key| format!("product/{key}")));
        }
        if keys.len().is_multiple_of(AGE_EVERY) {
            by_rank.swap(random.usize(..KEYS as usize), random.usize(..KEYS as usize));
        }
        // Zipf with an exponent of 1, by inversion of its continuous form.
        let rank = f64::from(KEYS).powf(random.f64()) as usize - 1;
        keys.push(format!("product/{}", by_rank[rank]));
    }
    keys
}

fn draw(file: &str, outcomes: &[(f64, Replay)]) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(file, (760, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .caption("Misses of 100 requests, by cache size", ("sans-serif", 18))
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d((0.5..50.0).log_scale(), 0.0..80.0)?;
    chart
        .configure_mesh()
        .x_desc("room, in percent of the keys")
        .y_desc("misses of 100 requests")
        .x_label_formatter(&|percent| format!("{percent} %"))
        .light_line_style(WHITE)
        .draw()?;
    let types = [
        (CacheType::Ttl, "ttl: the oldest goes first", RGBColor(148, 103, 189)),
        (CacheType::Lru, "lru: the least recently used", RGBColor(31, 119, 180)),
        (CacheType::S3fifo, "s3fifo", RGBColor(214, 39, 40)),
    ];
    for (cache_type, label, colour) in types {
        let points = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.cache_type == cache_type)
            .map(|(percent, outcome)| (*percent, outcome.miss_ratio * 100.0));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(3)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerLeft)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
