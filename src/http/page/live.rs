//! From the node to every open page: looked at once a second, drawn once for all, pushed as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as At;
use axum::http::header::CACHE_CONTROL;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::watch as channel;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::history::{History, Moment};
use super::plots;
use super::state::state;
use crate::handler::Handler;
use crate::http::Site;

/// How often the node is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The plots are drawn every so many ticks: a point of theirs is three.
const DRAWN_EVERY: u64 = 2;
/// A page that lost its node asks again after this.
const RETRY: Duration = Duration::from_secs(1);
/// A connection over which nothing went for this long may be cut by what is between.
const KEPT_ALIVE: Duration = Duration::from_secs(15);

/// What the pages show now.
#[derive(Debug)]
pub(in crate::http) struct Live(channel::Sender<Pushed>);

/// Texts, shared by all who are told them.
#[derive(Clone, Default, Debug)]
struct Pushed {
    state: Arc<str>,
    plots: Arc<str>,
    /// Grows when the plots are drawn anew.
    drawn: u64,
}

impl Default for Live {
    fn default() -> Self {
        Self(channel::Sender::new(Pushed::default()))
    }
}

/// Looks at the node every second, for ever.
pub(in crate::http) async fn watch<H: Handler>(site: &Site<H>) {
    let name = format!("dproxy-{}", site.config.node);
    let role = site.config.role;
    let mut history = History::new(name.clone());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in 0_u64.. {
        tick.tick().await;
        let tally = site.handler.tally();
        let (durations, in_flight) = (tally.durations(), tally.in_flight());
        let moment = Moment { metrics: site.samples().await, durations, in_flight };
        history.add(&moment, Instant::now());
        let state = text(&state(&history, role, &name, &moment.metrics));
        // What nobody looks at is not drawn, but for the first one who will.
        let is_drawn = count % DRAWN_EVERY == 0 && (site.live.0.receiver_count() > 0 || count % 10 == 0);
        let plots = is_drawn.then(|| text(&plots::draw(history.points())));
        site.live.0.send_modify(|pushed| {
            pushed.state = state;
            if let Some(plots) = plots {
                (pushed.plots, pushed.drawn) = (plots, pushed.drawn + 1);
            }
        });
    }
}

fn text(value: &impl serde::Serialize) -> Arc<str> {
    serde_json::to_string(value).unwrap_or_default().into()
}

/// What one page has been told, and how it hears more.
struct Listener<H> {
    site: Arc<Site<H>>,
    receiver: channel::Receiver<Pushed>,
    /// The drawing that it has.
    drawn: u64,
    /// To be told beside the state.
    plots: Option<Arc<str>>,
}

/// `GET /events`: the state every second, the plots whenever they are drawn, until the node stops.
pub(super) async fn events<H: Handler>(At(site): At<Arc<Site<H>>>) -> Response {
    let mut receiver = site.live.0.subscribe();
    // The first thing is told at once.
    receiver.mark_changed();
    let listener = Listener { site, receiver, drawn: 0, plots: None };
    let sse = Sse::new(told(listener)).keep_alive(KeepAlive::new().interval(KEPT_ALIVE));
    ([(CACHE_CONTROL, "no-store")], sse).into_response()
}

fn told<H: Handler>(listener: Listener<H>) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(listener, async |mut listener| {
        if let Some(plots) = listener.plots.take() {
            return Some((Ok(Event::default().event("plots").data(plots)), listener));
        }
        tokio::select! {
            biased;
            () = listener.site.draining.cancelled() => return None,
            changed = listener.receiver.changed() => changed.ok()?,
        }
        let pushed = listener.receiver.borrow_and_update().clone();
        if pushed.drawn != listener.drawn {
            listener.drawn = pushed.drawn;
            listener.plots = Some(pushed.plots);
        }
        Some((Ok(Event::default().event("state").retry(RETRY).data(pushed.state)), listener))
    })
}
