//! The begin of a connection at a server that speaks TLS: a handshake within a deadline, or a client that speaks something else.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{ServerTls, Spoken};
use crate::net::accept::{Admitted, RESERVE_DEADLINE};
use crate::net::closing;
use crate::net::log_pause::LogPause;
use crate::net::transport::Stream;

/// The time for a handshake under way to end after a stop.
const LAST_CALL: Duration = Duration::from_millis(500);

/// How a connection began.
pub(crate) enum Greeted {
    /// It can be served.
    Ready(Stream),
    /// Its client speaks no TLS: it is to be told so.
    #[cfg_attr(
        not(all(feature = "https", not(sim))),
        allow(dead_code, reason = "made by the handshake alone")
    )]
    Plain(Stream),
}

/// Shakes hands, if this server speaks TLS. `None` when the connection is over: the handshake failed, which is logged, or it
/// took longer than `within`, the place was given away, or the server stops.
pub(crate) async fn greet(
    stream: Stream,
    from: IpAddr,
    tls: Option<(&ServerTls, Spoken)>,
    at: &Admitted,
    within: Duration,
    stop: impl Future<Output = ()>,
) -> Option<Greeted> {
    let Some((tls, spoken)) = tls else { return Some(Greeted::Ready(stream)) };
    let within = if at.is_in_reserve() { within.min(RESERVE_DEADLINE) } else { within };
    let stopped = async {
        stop.await;
        sleep(LAST_CALL).await;
    };
    let greeted = tokio::select! {
        biased;
        greeted = tls.accept(stream, spoken) => greeted,
        () = at.place().given_away(Instant::now()) => return None,
        () = sleep(within) => return None,
        () = stopped => return None,
    };
    match greeted {
        Ok(greeted) => {
            if matches!(greeted, Greeted::Plain(_)) {
                log(from, "a client without TLS came to a port that speaks TLS");
            }
            Some(greeted)
        }
        Err((error, stream)) => {
            // A client that just closed is none to speak of.
            if error.kind() != io::ErrorKind::UnexpectedEof {
                log(from, &format!("no TLS with a client: {error}"));
            }
            if let Some(mut stream) = stream {
                // So that the alert, which tells the client why, arrives.
                closing::linger(&mut stream).await;
            }
            None
        }
    }
}

/// Logs what a client did wrong, once a second at most.
pub(crate) fn log(from: IpAddr, what: &str) {
    static PAUSE: LogPause = LogPause::new();
    if PAUSE.is_over() {
        warn!(%from, "{what}");
    }
}
