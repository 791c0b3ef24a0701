//! From the node to every open page: read once a second, drawn once for all pages, pushed as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as At;
use axum::http::header::CACHE_CONTROL;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::history::{History, Moment};
use super::plots;
use super::state::state;
use crate::handler::Handler;
use crate::http::site::{PageTexts, Site};

/// The time between two readings of the node.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two drawings. A point of a plot is three ticks, so each is drawn within two.
const DRAWN_EVERY: u64 = 2;
/// A page that lost its connection tries again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// The time between two comments on a silent connection, which middleboxes might cut.
const KEPT_ALIVE: Duration = Duration::from_secs(15);

/// Reads the node every second and sends the texts of the page, without an end.
pub(in crate::http) async fn watch<H: Handler>(site: &Site<H>) {
    let name = format!("dproxy-{}", site.config.node);
    let role = site.config.role;
    let mut history = History::new(name.clone());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0_u64.. {
        tick.tick().await;
        let counters = site.handler.counters();
        let (durations, in_flight) = (counters.durations(), counters.in_flight());
        let moment = Moment { metrics: site.metrics().await, durations, in_flight };
        history.add(&moment, Instant::now());
        let state = text(&state(&history, role, &name, &moment.metrics));
        // Without an open page the plots are drawn rarely: the first page that opens needs some.
        let is_drawn = count % DRAWN_EVERY == 0 && (site.page.receiver_count() > 0 || count % 10 == 0);
        let plots = is_drawn.then(|| text(&plots::draw(history.points())));
        site.page.send_modify(|texts| {
            texts.state = state;
            if let Some(plots) = plots {
                (texts.plots, texts.drawings) = (plots, texts.drawings + 1);
            }
        });
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
    ([(CACHE_CONTROL, "no-store")], sse).into_response()
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
