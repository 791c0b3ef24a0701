//! From the node to every open page: read once a second, drawn once for all pages, pushed as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as At;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde_json::Value;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::history::{History, Moment};
use super::pace::Pace;
use super::plots;
use super::state::state;
use crate::handler::Handler;
use crate::http::Role;
use crate::http::site::{PageTexts, Site};
use crate::pool;

/// The time between two looks at the node.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two drawings. A point of a plot is three ticks, so each is drawn within two.
const DRAWN_EVERY: u64 = 2;
/// … without an open page: the first one that opens needs some.
const DRAWN_RARELY: u64 = 10;
/// A page that lost its connection tries again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// The time between two comments on a silent connection, which middleboxes might cut.
const KEPT_ALIVE: Duration = Duration::from_secs(15);

/// Tells nginx in front to pass a stream on as it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the page shows, and how its texts are made.
struct Screen {
    history: History,
    role: Role,
    name: String,
}

/// Looks at the node every second and sends the texts of the page, without an end. METRICS are read and texts are made on the
/// pool: they are as long as the list of nodes. While no page is open they are made as rarely as `Pace` says.
pub(in crate::http) async fn watch<H: Handler>(site: &Site<H>) {
    let name = format!("dproxy-{}", site.config.node);
    let mut screen = Screen { history: History::new(name.clone()), role: site.config.role, name };
    let mut pace = Pace::default();
    let mut next_drawing = 0;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0_u64.. {
        tick.tick().await;
        let (began, is_open) = (Instant::now(), site.page.receiver_count() > 0);
        let counters = site.handler.counters();
        let (durations, in_flight) = (counters.durations(), counters.in_flight());
        if !is_open && !pace.is_due(began) {
            screen.history.add(&Moment { metrics: Value::Null, durations, in_flight }, began);
            continue;
        }
        let is_drawn = count >= next_drawing;
        if is_drawn {
            next_drawing = count + if is_open { DRAWN_EVERY } else { DRAWN_RARELY };
        }
        let metrics = site.metrics_text().await;
        let made = pool::run(move || {
            let metrics = metrics.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            let texts = screen.texts(&Moment { metrics, durations, in_flight }, began, is_drawn);
            (screen, texts)
        });
        // It fails only when the runtime ends.
        let Ok((back, (state, plots))) = made.await else { return };
        screen = back;
        site.page.send_modify(|texts| {
            texts.state = state;
            if let Some(plots) = plots {
                (texts.plots, texts.drawings) = (plots, texts.drawings + 1);
            }
        });
        pace.rest(began, Instant::now());
    }
}

impl Screen {
    /// Takes a moment over; the text of the state, and that of the plots if they are to be drawn.
    fn texts(&mut self, moment: &Moment, now: Instant, is_drawn: bool) -> (Arc<str>, Option<Arc<str>>) {
        self.history.add(moment, now);
        let state = text(&state(&self.history, self.role, &self.name, &moment.metrics));
        (state, is_drawn.then(|| text(&plots::draw(self.history.points()))))
    }
}

fn text(value: &impl serde::Serialize) -> Arc<str> {
    serde_json::to_string(value).unwrap_or_default().into()
}

/// One open page.
struct Subscriber<H> {
    site: Arc<Site<H>>,
    texts: Receiver<PageTexts>,
    /// The drawing that it got last.
    drawing: u64,
    /// The plots to be sent after the state.
    plots: Option<Arc<str>>,
}

/// `GET /events`: the state every second, the plots whenever they are drawn, until the node stops.
pub(super) async fn events<H: Handler>(At(site): At<Arc<Site<H>>>) -> Response {
    let mut texts = site.page.subscribe();
    // The first state is sent at once.
    texts.mark_changed();
    let subscriber = Subscriber { site, texts, drawing: 0, plots: None };
    let sse = Sse::new(pushed(subscriber)).keep_alive(KeepAlive::new().interval(KEPT_ALIVE));
    ([(CACHE_CONTROL, "no-store"), (X_ACCEL_BUFFERING, "no")], sse).into_response()
}

fn pushed<H: Handler>(subscriber: Subscriber<H>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(subscriber, async |mut subscriber| {
        if let Some(plots) = subscriber.plots.take() {
            return Some((Ok(Event::default().event("plots").data(plots)), subscriber));
        }
        tokio::select! {
            biased;
            () = subscriber.site.draining.cancelled() => return None,
            changed = subscriber.texts.changed() => changed.ok()?,
        }
        let texts = subscriber.texts.borrow_and_update().clone();
        if texts.drawings != subscriber.drawing {
            subscriber.drawing = texts.drawings;
            subscriber.plots = Some(texts.plots);
        }
        Some((Ok(Event::default().event("state").retry(RETRY).data(texts.state)), subscriber))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::handler::{Answer, Ask};
    use crate::http::HttpConfig;
    use crate::http::measured::Measured;
    use crate::net::accept::Door;
    use crate::wire::Reply;

    /// A balancer with so many nodes that its METRICS take this long.
    struct Large(Duration, AtomicU64);

    impl Handler for Large {
        fn answer(self: &Arc<Self>, _ask: Ask<'_>) -> Answer {
            self.1.fetch_add(1, Ordering::Relaxed);
            let takes = self.0;
            Answer::later(async move {
                sleep(takes).await;
                Reply::json(&serde_json::json!({ "total_requests": 7, "proxies": {} }))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn metrics_that_cost_much_are_hardly_read_while_no_page_is_open() {
        let site = |takes| {
            let measured = Measured::new(Arc::new(Large(takes, AtomicU64::new(0))));
            let door = Arc::new(Door::new(1, Duration::ZERO));
            let config = HttpConfig::new(Role::Balancer, 9000);
            Arc::new(Site::new(measured, config, CancellationToken::new(), door))
        };
        for (takes, closed, open) in [(60, 5..=11, 55..=61), (0, 290..=301, 55..=61)] {
            let site = site(Duration::from_millis(takes));
            let reads = || site.handler.inner().1.load(Ordering::Relaxed);
            let watched = tokio::spawn({
                let site = site.clone();
                async move { watch(&site).await }
            });
            sleep(Duration::from_secs(300)).await;
            let before = reads();
            assert!(closed.contains(&before), "{before} in five minutes");
            let page = site.page.subscribe();
            assert!(page.borrow().state.contains("total_requests") || page.borrow().state.contains("totals"));
            sleep(Duration::from_secs(60)).await;
            let more = reads() - before;
            assert!(open.contains(&more), "{more} in a minute with an open page");
            watched.abort();
        }
    }
}
