//! EXPLAIN of a key: what the nodes know of it that a GET may go to, the oldest copy first.

use std::time::Duration;

use arc_swap::Guard;
use futures_util::stream::{self, StreamExt};
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::metrics::state_of;
use super::nodes::Member;
use super::upstreams::Upstreams;
use crate::wire::{Key, KeyBuf, Reply, ReplyView, Request, Status};

/// The deadline of EXPLAIN, its wait for a place included.
const EXPLAIN_DEADLINE: Duration = Duration::from_secs(2);
/// Nodes that one EXPLAIN asks at once.
const AT_ONCE: usize = 32;
/// The most nodes that a reply tells of.
const MOST: usize = 64;

/// The reply: `strategy`, `goes_by_key`, `next` (the proxy that the next GET goes to), and what one `proxy` says: that one if
/// the strategy goes by the key, else the one with the oldest copy. Then `proxies` has what each of them says.
pub(super) async fn explain(upstreams: &Upstreams, key: Key<'_>) -> Reply {
    let deadline = Instant::now() + EXPLAIN_DEADLINE;
    let Ok(Ok(_place)) = timeout_at(deadline, upstreams.explains.acquire()).await else {
        return Reply::text(Status::Overloaded, "too many EXPLAINs are under way");
    };
    let (choice, now) = (&upstreams.choice, upstreams.clock.now());
    let next = {
        let standing = Guard::into_inner(upstreams.standing(now));
        choice.peek(key, &standing, now).cloned()
    };
    let Some(next) = next else {
        return Reply::text(Status::ProxyError, "there is no healthy proxy to try");
    };
    let goes_by_key = choice.balance().goes_by_key();
    let (name, key) = (Value::from(&*next.name), key.to_owned());
    let asked = match goes_by_key {
        true => vec![next],
        false => upstreams.members.nodes().iter().cloned().collect(),
    };
    let asking = asked.into_iter().map(|member| said_by(member, key.clone(), deadline));
    let mut said: Vec<Map<String, Value>> = stream::iter(asking).buffered(AT_ONCE).collect().await;
    said.sort_by(|a, b| age(b).total_cmp(&age(a)));
    let mut data = said.first().cloned().unwrap_or_default();
    data.insert("strategy".to_owned(), Value::from(choice.strategy()));
    data.insert("goes_by_key".to_owned(), Value::from(goes_by_key));
    data.insert("next".to_owned(), name);
    if !goes_by_key {
        let left_off = said.len().saturating_sub(MOST);
        said.truncate(MOST);
        data.insert("proxies".to_owned(), said.into_iter().map(Value::from).collect());
        if left_off > 0 {
            data.insert("proxies_left_off".to_owned(), Value::from(left_off));
        }
    }
    Reply::json(&data)
}

/// The age of a copy in seconds; nodes without one come behind those with one, and those that say nothing are last.
fn age(said: &Map<String, Value>) -> f64 {
    let without = if said.contains_key("error") { -2.0 } else { -1.0 };
    said.get("age_seconds").and_then(Value::as_f64).unwrap_or(without)
}

/// `proxy` and the node's own `data`, or an `error`. A node that is down is not asked.
async fn said_by(member: Member, key: KeyBuf, deadline: Instant) -> Map<String, Value> {
    let node = &member.node;
    let mut data = Map::new();
    data.insert("proxy".to_owned(), Value::from(&*member.name));
    let error = match node.is_healthy() {
        false => format!("{}: {}", state_of(node), node.health().since().1),
        true => {
            let line = node.link().ask(Request::Explain(key.as_key()), deadline).await;
            match line.as_ref().map(|line| ReplyView::parse(line)) {
                Ok(Ok(view)) if view.status == Status::Ok => {
                    let known: Option<Map<String, Value>> = serde_json::from_str(view.data).ok();
                    data.extend(known.unwrap_or_default());
                    return data;
                }
                Ok(Ok(view)) => view.status.as_str().to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            }
        }
    };
    data.insert("error".to_owned(), Value::from(error));
    data
}
