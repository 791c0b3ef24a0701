//! Proxies that a PURGE or CHANGED through a balancer did not reach: the balancer's reply names them in its `data`, and that of
//! an older one is OK all the same.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::{ReplyView, Status};

/// The `data` of a reply to PURGE or CHANGED; only a balancer's has `proxies`.
#[derive(Default, Deserialize)]
struct Reached {
    #[serde(default)]
    proxies: BTreeMap<String, ProxyResult>,
    /// Whether the balancer knows after its restart what is owed. Older ones do not.
    #[serde(default)]
    durable: bool,
}

#[derive(Deserialize)]
struct ProxyResult {
    error: Option<String>,
    #[serde(default)]
    owed: bool,
    #[serde(default)]
    why: String,
}

/// A sentence for each proxy that refused, and so keeps the documents, or that owes the purge.
pub(super) fn unpurged(reply: &[u8]) -> Vec<String> {
    let Reached { proxies, durable } = reached(reply);
    proxies.iter().filter_map(|(node, result)| sentence(node, result, durable)).collect()
}

/// A sentence for each proxy that was not told of a change, or whose origin was not.
pub(super) fn untold(reply: &[u8]) -> Vec<String> {
    let Reached { proxies, durable } = reached(reply);
    let sentence = |(node, result): (&String, &ProxyResult)| match &result.error {
        Some(error) => Some(format!("the proxy {node} did not pass on the word: {error}: {}", result.why)),
        None if result.owed => {
            Some(format!("the proxy {node} was not told: {}; {}", result.why, until(durable)))
        }
        None => None,
    };
    proxies.iter().filter_map(sentence).collect()
}

fn reached(reply: &[u8]) -> Reached {
    let data = ReplyView::parse(reply).ok().and_then(|reply| serde_json::from_str(reply.data).ok());
    data.unwrap_or_default()
}

fn sentence(node: &str, result: &ProxyResult, durable: bool) -> Option<String> {
    if let Some(error) = &result.error {
        let advice = match Status::parse(error) {
            Some(Status::Forbidden) => "; name the balancer in its --admin-from",
            Some(Status::WrongMethod) => "; it has no PURGE: restart it to empty its cache",
            _ => "",
        };
        return Some(format!("the proxy {node} refused the purge and keeps what it holds: {error}{advice}"));
    }
    result.owed.then(|| format!("the proxy {node} was not purged: {}; {}", result.why, until(durable)))
}

/// When an owed purge is done.
fn until(durable: bool) -> &'static str {
    match durable {
        true => "this balancer purges it before its next request, and other balancers do not know",
        false => {
            "this balancer, unless it is restarted, purges it before its next request, and other balancers do not know"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_that_were_not_purged_are_named() {
        let reply = br#"{"status":"OK","data":{"purged":1,"proxies":{"a:1":{"purged":1},"b:2":{"owed":true,"why":"down"},"c:3":{"error":"FORBIDDEN"}}}}"#;
        let named = unpurged(reply);
        assert!(named.len() == 2 && named[0].contains("b:2") && named[0].contains("restarted"), "{named:?}");
        assert!(named[1].contains("c:3") && named[1].contains("--admin-from"), "{named:?}");
        let reply = br#"{"status":"PROXY_UNREACHABLE","data":{"purged":0,"proxies":{"b:2":{"owed":true,"why":"down"}},"durable":true,"limit":"x"}}"#;
        assert!(!unpurged(reply)[0].contains("restarted"));
        assert!(unpurged(br#"{"status":"OK","data":{"purged":1}}"#).is_empty());
    }

    #[test]
    fn proxies_that_were_not_told_are_named() {
        let reply = br#"{"status":"PROXY_ERROR","data":{"acked":1,"lapsed":0,"proxies":{"a:1":{"acked":1,"lapsed":0},"b:2":{"owed":true,"why":"down"},"c:3":{"error":"FORBIDDEN","why":"not you"}}}}"#;
        let named = untold(reply);
        assert!(named.len() == 2 && named[0].contains("b:2 was not told: down"), "{named:?}");
        assert!(named[1].contains("c:3") && named[1].contains("FORBIDDEN: not you"), "{named:?}");
        assert!(untold(br#"{"status":"OK","data":{"seq":1,"acked":1,"lapsed":0}}"#).is_empty());
    }
}
