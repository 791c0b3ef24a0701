//! One HTTP connection: served by hyper, under the deadlines of the line protocol.
//!
//! ```text
//!   head (within the line deadline) ──▶ between heads: answering, streaming, or idle (within the idle deadline) ──▶ head …
//!   blocked: the client does not read what we write (within the write deadline)
//! ```
//! These deadlines cost a request no look at the clock: a coarse tick checks whether anything has moved since the last.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::active::{ActiveStream, Activity};
use super::head::{MAX_HEAD, MAX_HEADERS, MAX_PARSED};
use super::opening::{self, Protocol};
use super::service::Service;
use super::site::Site;
use crate::handler::Handler;
use crate::net::accept::RESERVE_DEADLINE;
use crate::net::transport::Stream;
use crate::net::{ServerLimits, closing, tls};

/// The limit of requests in flight on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// After a stop, an idle connection is kept open for this time: a request may be on its way to us. Its response tells the
/// client to use another connection; without a response the client would see an error.
const IDLE_END: Duration = Duration::from_millis(500);
/// The limit of bytes of one read or write.
const MAX_BUFFER: usize = 64 * 1024;

/// Serves one connection to its end. After `stop` it ends with the next response, or soon if no request comes.
pub(super) async fn serve<H: Handler>(
    mut stream: Stream,
    service: Service<H>,
    activity: Arc<Activity>,
    site: &Site<H>,
    stop: &CancellationToken,
) {
    let limits = &site.config.limits;
    // Responses are small and complete: Nagle's algorithm would only delay them. The error is that of a closed socket,
    // which the first read reports as well.
    let _ = stream.set_nodelay(true);
    let first = tokio::select! {
        biased;
        first = opening::read(&mut stream) => first,
        () = activity.at().place().given_away(Instant::now()) => return,
        () = sleep(RESERVE_DEADLINE), if activity.at().is_in_reserve() => {
            return while_unneeded(&activity, closing::turn_away(stream, &site.refuse_connection())).await;
        }
        () = sleep(limits.line_deadline) => return,
        () = idle_end(stop, limits) => return,
    };
    let Ok(Some((protocol, first))) = first else { return };
    if protocol == Protocol::Tls {
        tls::log(service.from, "a client that speaks TLS came to a port of HTTP without it");
        return while_unneeded(&activity, closing::turn_away(stream, &site.refuse_head(400))).await;
    }
    if protocol == Protocol::Lines {
        return while_unneeded(&activity, closing::turn_away(stream, &site.refuse_line())).await;
    }
    let refuse = |code| site.refuse_head(code);
    let io = TokioIo::new(ActiveStream::new(stream, first, activity.clone(), limits, &refuse));
    if protocol == Protocol::Http2 {
        activity.has_streams(limits.unread.clone());
        let mut conn = http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(MAX_PARSED)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(MAX_BUFFER)
            .serve_connection(io, service);
        // It closes such that its last frames arrive.
        run(Pin::new(&mut conn), http2::Connection::graceful_shutdown, &activity, limits, stop).await;
        return;
    }
    let mut conn = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        // A client that has sent all it has to say, such as nc at the end of its input, still reads.
        .half_close(true)
        .header_read_timeout(None::<Duration>)
        .serve_connection(io, service);
    let end = run(Pin::new(&mut conn), http1::Connection::graceful_shutdown, &activity, limits, stop).await;
    let mut stream = conn.into_parts().io.into_inner().into_stream();
    match end {
        End::Overdue => {}
        // The client may still be sending a body, which is not read.
        End::Over if activity.is_unread() => while_unneeded(&activity, closing::linger(&mut stream)).await,
        End::Over => while_unneeded(&activity, closing::close(&mut stream)).await,
    }
}

/// Closes a connection for as long as nobody needs its place. One that was given away already was so during a request, whose
/// response has to arrive.
async fn while_unneeded(activity: &Activity, closing: impl Future<Output = ()>) {
    let place = activity.at().place();
    let is_leaving = place.was_given_away();
    tokio::select! {
        biased;
        () = closing => {}
        () = place.given_away(Instant::now()), if !is_leaving => {}
    }
}

/// How a connection ends.
enum End {
    /// By itself: the client got every response that could be sent.
    Over,
    /// Past a deadline, or to make room for another connection.
    Overdue,
}

/// Runs a connection of either version to its end.
async fn run<C: Future>(
    mut conn: Pin<&mut C>,
    end_soon: impl FnOnce(Pin<&mut C>),
    activity: &Activity,
    limits: &ServerLimits,
    stop: &CancellationToken,
) -> End {
    let overdue = overdue(activity, limits);
    let stopped = async {
        stop.cancelled().await;
        activity.end_with_next();
        idle_end(stop, limits).await;
    };
    tokio::pin!(overdue);
    tokio::select! {
        biased;
        _ = conn.as_mut() => return End::Over,
        is_idle = activity.at().given_away_idle() => {
            if is_idle {
                return End::Overdue;
            }
            // The client of a request that came just now gets its response.
            activity.end_with_next();
            end_soon(conn.as_mut());
        }
        () = stopped => end_soon(conn.as_mut()),
        () = overdue.as_mut() => return End::Overdue,
        () = activity.cut() => return End::Overdue,
    }
    tokio::select! {
        biased;
        _ = conn => End::Over,
        () = overdue => End::Overdue,
        () = activity.cut() => End::Overdue,
    }
}

/// Completes when a connection without a request is to end after a stop.
async fn idle_end(stop: &CancellationToken, limits: &ServerLimits) {
    stop.cancelled().await;
    sleep(IDLE_END.min(limits.drain / 2)).await;
}

/// Completes when nothing has moved for as long as [`Activity::deadline`] allows. Up to two ticks late: the last move is
/// noticed at a tick, and so is its age.
async fn overdue(activity: &Activity, limits: &ServerLimits) {
    let shortest = limits.line_deadline.min(limits.write_deadline).min(limits.idle_deadline);
    let tick = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
    let (mut moves, mut since) = (u64::MAX, Instant::now());
    loop {
        sleep(tick).await;
        let (seen, now) = (activity.moves(), Instant::now());
        if seen != moves {
            (moves, since) = (seen, now);
            continue;
        }
        let (place, idle_since) = (activity.at().place(), activity.idle_since(since));
        // A time that was noted to the moment stays.
        if idle_since.is_none() || !place.is_idle() {
            place.note(idle_since);
        }
        if now - since >= activity.deadline(limits) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::yield_now;
    use tokio::time::{advance, pause, resume};

    use super::*;
    use crate::handler::{Answer, Ask};
    use crate::http::{Gateway, HttpConfig, Measured, Role};
    use crate::net::transport::tests::narrow;
    use crate::wire::{Reply, Status};

    /// Answers in the next turn of the runtime.
    struct Later;

    impl Handler for Later {
        fn answer(self: &Arc<Self>, _: Ask<'_>) -> Answer {
            Answer::later(async {
                yield_now().await;
                Reply::null(Status::NotFound)
            })
        }
    }

    #[tokio::test]
    async fn a_request_that_comes_as_the_place_is_given_away_gets_its_response() {
        let (listener, mut client) = narrow().await;
        let limits = ServerLimits { max_connections: 1, ..ServerLimits::default() };
        let config = HttpConfig { limits, ..HttpConfig::new(Role::Proxy, 1) };
        let (stop, close) = Default::default();
        let gateway = Gateway::new(Measured::new(Arc::new(Later)), config, stop, close);
        let door = gateway.door.clone();
        tokio::spawn(async move { gateway.serve(listener).await });
        while !door.are_seated(1) {
            yield_now().await;
        }
        pause();
        advance(Duration::from_secs(1)).await;
        resume();
        client.write_all(b"GET /a/1 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(door.give_away());
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(
            response.starts_with("HTTP/1.1 404 ") && response.contains("connection: close"),
            "{response}"
        );
    }
}
