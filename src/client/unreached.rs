//! Proxies that a PURGE through a balancer did not reach: the balancer's reply names them in its `data`, and that of an older
//! one is OK all the same.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::{ReplyView, Status};

/// The `data` of a reply to PURGE; only a balancer's has `proxies`.
#[derive(Deserialize)]
struct PurgeData {
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
pub(super) fn unreached(reply: &[u8]) -> Vec<String> {
    let data = ReplyView::parse(reply).ok().and_then(|reply| serde_json::from_str(reply.data).ok());
    let Some(PurgeData { proxies, durable }) = data else { return Vec::new() };
    proxies.iter().filter_map(|(node, result)| sentence(node, result, durable)).collect()
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
    let until = match durable {
        true => "this balancer purges it before its next request",
        false => "this balancer, unless it is restarted, purges it before its next request",
    };
    result.owed.then(|| {
        format!("the proxy {node} was not purged: {}; {until}, and other balancers do not know", result.why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_that_were_not_purged_are_named() {
        let reply = br#"{"status":"OK","data":{"purged":1,"proxies":{"a:1":{"purged":1},"b:2":{"owed":true,"why":"down"},"c:3":{"error":"FORBIDDEN"}}}}"#;
        let named = unreached(reply);
        assert!(named.len() == 2 && named[0].contains("b:2") && named[0].contains("restarted"), "{named:?}");
        assert!(named[1].contains("c:3") && named[1].contains("--admin-from"), "{named:?}");
        let reply = br#"{"status":"PROXY_UNREACHABLE","data":{"purged":0,"proxies":{"b:2":{"owed":true,"why":"down"}},"durable":true,"limit":"x"}}"#;
        assert!(!unreached(reply)[0].contains("restarted"));
        assert!(unreached(br#"{"status":"OK","data":{"purged":1}}"#).is_empty());
    }
}
