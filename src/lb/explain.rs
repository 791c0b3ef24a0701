//! EXPLAIN of a key: the node that a GET would go to, and what that node knows of the key.

use std::time::Duration;

use arc_swap::Guard;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use super::nodes::Member;
use super::upstreams::Upstreams;
use crate::wire::{Key, Reply, ReplyView, Request, Status};

/// The deadline of EXPLAIN, its wait for a place included.
const EXPLAIN_DEADLINE: Duration = Duration::from_secs(2);

/// The reply: `proxy`, `strategy`, `goes_by_key`, and beside them the node's own `data` or an `error`.
pub(super) async fn explain(upstreams: &Upstreams, key: Key<'_>) -> Reply {
    let deadline = Instant::now() + EXPLAIN_DEADLINE;
    let Ok(Ok(_place)) = timeout_at(deadline, upstreams.explains.acquire()).await else {
        return Reply::text(Status::Overloaded, "too many EXPLAINs are under way");
    };
    let (choice, now) = (&upstreams.choice, upstreams.clock.now());
    let standing = Guard::into_inner(upstreams.standing(now));
    let Some(Member { node, name, .. }) = choice.peek(key, &standing, now) else {
        return Reply::text(Status::ProxyError, "there is no healthy proxy to try");
    };
    let line = node.link().ask(Request::Explain(key), deadline).await;
    let mut data = Map::new();
    data.insert("proxy".to_owned(), Value::from(&**name));
    data.insert("strategy".to_owned(), Value::from(choice.strategy()));
    data.insert("goes_by_key".to_owned(), Value::from(choice.balance().goes_by_key()));
    let error = match line.as_ref().map(|line| ReplyView::parse(line)) {
        Ok(Ok(view)) if view.status == Status::Ok => {
            let known: Option<Map<String, Value>> = serde_json::from_str(view.data).ok();
            data.extend(known.unwrap_or_default());
            return Reply::json(&data);
        }
        Ok(Ok(view)) => view.status.as_str().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    data.insert("error".to_owned(), Value::from(error));
    Reply::json(&data)
}
