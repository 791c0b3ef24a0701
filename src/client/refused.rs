//! Proxies that refused a PURGE which a balancer passed on: the balancer's reply is OK, and names them in its `data`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::{ReplyView, Status};

/// The `data` of a reply to PURGE; only a balancer's has `proxies`.
#[derive(Deserialize)]
struct PurgeData {
    #[serde(default)]
    proxies: BTreeMap<String, ProxyResult>,
}

#[derive(Deserialize)]
struct ProxyResult {
    error: Option<String>,
}

/// A sentence for each proxy that refused, and so keeps the documents. Proxies that are down are purged later and not named.
pub(super) fn refusals(reply: &[u8]) -> Vec<String> {
    let data = ReplyView::parse(reply).ok().and_then(|reply| serde_json::from_str(reply.data).ok());
    let Some(PurgeData { proxies }) = data else { return Vec::new() };
    let refused = proxies.into_iter().filter_map(|(node, result)| Some((node, result.error?)));
    refused
        .map(|(node, error)| {
            let advice = match Status::parse(&error) {
                Some(Status::Forbidden) => "; name the balancer in its --admin-from",
                Some(Status::WrongMethod) => "; it has no PURGE: restart it to empty its cache",
                _ => "",
            };
            format!("the proxy {node} refused the purge and keeps what it holds: {error}{advice}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proxies_that_refused_are_named() {
        let reply = br#"{"status":"OK","data":{"purged":1,"proxies":{"a:1":{"purged":1},"b:2":{"owed":true,"why":"down"},"c:3":{"error":"FORBIDDEN"}}}}"#;
        let named = refusals(reply);
        assert!(
            named.len() == 1 && named[0].contains("c:3") && named[0].contains("--admin-from"),
            "{named:?}"
        );
        assert!(refusals(br#"{"status":"OK","data":{"purged":1}}"#).is_empty());
    }
}
