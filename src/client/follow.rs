//! `--follow`: each document is printed when the origin tells that it has changed, until nobody reads it any more.
//!
//! ```text
//!   WATCH ──▶ names ──▶ those that are followed ──▶ GET ──▶ {"key":"article/7","status":"OK","data":…}
//!     ▲                                                        │
//!     └────────────────────────────────────────────────────────┘
//! ```
//! What may have been missed is said on standard error: many changes at once, an origin that begins anew.

use std::time::Duration;

use anyhow::Result;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, sleep};

use super::{Exit, IN_FLIGHT};
use crate::net::Link;
use crate::terminal::{self, complain};
use crate::wire::{Batch, Changed, KeyBuf, Pattern, Position, ReplyView, Request, Status, Tell, Watch};

/// The longest wait of a WATCH.
const WAIT: Duration = Duration::from_secs(1);
/// Pauses after a failure, from the first, doubled, to the longest: a random part of each is waited for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What a batch tells of the documents that are followed.
#[derive(Default, PartialEq, Eq, Debug)]
struct News {
    /// Those that have changed.
    keys: Vec<KeyBuf>,
    /// Prefixes and tags of others that may have.
    untold: Vec<String>,
}

/// Why a WATCH brought no batch.
enum Unheard {
    /// It will not bring one.
    Never(String),
    /// It may later.
    Now(String),
}

/// Prints documents as they change. Ends when standard output is closed, or at a node that tells nobody of changes.
pub(super) async fn follow(link: &Link, followed: Changed<'_>, timeout: Duration) -> Result<Exit> {
    let (mut since, mut pause, mut is_silent): (Option<Position>, _, _) = (None, PAUSES.0, false);
    loop {
        let asked_at = Instant::now();
        let batch = match watch(link, since, timeout).await {
            Ok(batch) => batch,
            Err(Unheard::Never(why)) => {
                complain(why);
                return Ok(Exit::NoReply);
            }
            Err(Unheard::Now(why)) => {
                if !std::mem::replace(&mut is_silent, true) {
                    complain(format!("{why}; tried again until it answers"));
                }
                sleep(pause.mul_f64(fastrand::f64())).await;
                pause = (pause * 2).min(PAUSES.1);
                continue;
            }
        };
        (is_silent, pause) = (false, PAUSES.0);
        let known = since.replace(batch.position());
        if batch.reset && known != since {
            name_resources(link, followed, timeout).await;
            complain(match known {
                None => format!("following {followed} at {}", link.peer()),
                Some(_) => {
                    "any document may have changed: the origin has begun anew, or much has changed at once"
                        .to_owned()
                }
            });
        }
        let News { keys, untold } = news(&batch.changes, followed);
        for name in untold {
            complain(format!("documents of {name} may have changed: they are not told one by one"));
        }
        let is_idle = batch.changes.is_empty();
        if !print_all(link, keys, timeout).await? {
            return Ok(Exit::Ok);
        }
        // An origin that does not wait is not asked without a pause.
        if is_idle && known.is_some() && asked_at.elapsed() < WAIT / 2 {
            sleep(PAUSES.0).await;
        }
    }
}

/// Asks for a document of each resource: an origin tells only of those that somebody has asked for.
async fn name_resources(link: &Link, followed: Changed<'_>, timeout: Duration) {
    for pattern in followed.patterns() {
        let key = match pattern {
            Pattern::One(key) => Ok(key.to_owned()),
            Pattern::Beneath(prefix) => KeyBuf::parse(&format!("{prefix}-")),
            Pattern::Tagged(_) => continue,
        };
        if let Ok(key) = key {
            // Whatever it brings: if it fails, so will the next WATCH.
            let _ = link.ask(Request::Get(key.as_key()), Instant::now() + timeout).await;
        }
    }
}

async fn watch(link: &Link, since: Option<Position>, timeout: Duration) -> Result<Batch, Unheard> {
    // The first one only asks where the log is.
    let wait = if since.is_some() { WAIT } else { Duration::ZERO };
    let request = Request::Watch(Watch { since, wait, by: None });
    let now = Instant::now();
    let line = link.ask_once(request, Tell::default(), now + wait + timeout, now).await;
    let line = line.map_err(|error| Unheard::Now(error.advice(link.peer())))?;
    let garbage = || Unheard::Now(format!("{} answered, but with no word of changes", link.peer()));
    let reply = ReplyView::parse(&line).map_err(|_| garbage())?;
    match reply.status {
        Status::Ok => serde_json::from_str(reply.data).map_err(|_| garbage()),
        Status::WrongMethod | Status::Forbidden => {
            let why: String = serde_json::from_str(reply.data).unwrap_or_default();
            Err(Unheard::Never(format!("{} tells of no changes: {}: {why}", link.peer(), reply.status)))
        }
        status => Err(Unheard::Now(format!("{} answered {status}", link.peer()))),
    }
}

/// Which of the documents that are followed have changed.
fn news(names: &[String], followed: Changed<'_>) -> News {
    let mut news = News::default();
    for name in names {
        let is_told = followed.patterns().any(|wanted| match (Pattern::parse(name), wanted) {
            (Ok(Pattern::One(key)), Pattern::Beneath(prefix)) => key.as_str().starts_with(prefix),
            (Ok(Pattern::One(key)), Pattern::One(wanted)) => key == wanted,
            _ => false,
        });
        if is_told {
            news.keys.extend(KeyBuf::parse(name));
            continue;
        }
        let Ok(Pattern::Beneath(prefix)) = Pattern::parse(name) else {
            news.untold.extend(name.starts_with("tag:").then(|| name.clone()));
            continue;
        };
        for wanted in followed.patterns() {
            match wanted {
                Pattern::One(key) if key.as_str().starts_with(prefix) => news.keys.push(key.to_owned()),
                Pattern::Beneath(wanted) if wanted.starts_with(prefix) || prefix.starts_with(wanted) => {
                    news.untold.push(name.clone());
                }
                _ => {}
            }
        }
    }
    news
}

/// Asks for documents and prints each on a line. False when standard output is closed.
async fn print_all(link: &Link, keys: Vec<KeyBuf>, timeout: Duration) -> Result<bool> {
    let asked = stream::iter(keys).map(|key| async move {
        let line = link.ask(Request::Get(key.as_key()), Instant::now() + timeout).await;
        (key, line)
    });
    let mut asked = asked.buffered(IN_FLIGHT);
    while let Some((key, line)) = asked.next().await {
        let line = match &line {
            Ok(line) => String::from_utf8_lossy(line),
            Err(error) => {
                complain(format!("{} has changed: {}", key.as_str(), error.advice(link.peer())));
                continue;
            }
        };
        let Some(members) = line.strip_prefix('{') else { continue };
        // The alphabet of keys needs no escapes in JSON.
        let text = format!("{{\"key\":\"{}\",{members}\n", key.as_str());
        if !terminal::print(terminal::harmless(&text).as_bytes())? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str], followed: &str) -> (Vec<String>, Vec<String>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let News { keys, untold } = news(&names, Changed::parse(followed).unwrap());
        (keys.iter().map(|key| key.as_str().to_owned()).collect(), untold)
    }

    #[test]
    fn names_are_told_from_those_of_others() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let followed = "article/* price/7";
        assert_eq!(
            told(&["article/1", "price/7", "price/8", "articles/1"], followed),
            (keys(&["article/1", "price/7"]), Vec::new())
        );
        assert_eq!(told(&["price/*"], followed), (keys(&["price/7"]), Vec::new()));
        assert_eq!(
            told(&["article/de/*", "tag:x"], followed),
            (Vec::new(), keys(&["article/de/*", "tag:x"]))
        );
        assert_eq!(told(&["article/*"], "article/de/*"), (Vec::new(), keys(&["article/*"])));
    }
}
