//! Proxies that refused a purge which a balancer passed on: its reply is OK all the same, and says so of each of them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::{ReplyView, Status};

/// What the reply to a PURGE says; of a proxy it has no `proxies`.
#[derive(Deserialize)]
struct Purged {
    #[serde(default)]
    proxies: BTreeMap<String, Done>,
}

/// What became of it at one proxy.
#[derive(Deserialize)]
struct Done {
    error: Option<String>,
}

/// A sentence for each proxy that still holds what was to be purged, and will go on holding it.
pub(super) fn refusals(reply: &[u8]) -> Vec<String> {
    let told = ReplyView::parse(reply).ok().and_then(|reply| serde_json::from_str(reply.data).ok());
    let Some(Purged { proxies }) = told else { return Vec::new() };
    let refused = proxies.into_iter().filter_map(|(node, done)| Some((node, done.error?)));
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
    fn only_who_refuses_is_told() {
        let reply = br#"{"status":"OK","data":{"purged":1,"proxies":{"a:1":{"purged":1},"b:2":{"owed":true,"why":"down"},"c:3":{"error":"FORBIDDEN"}}}}"#;
        let told = refusals(reply);
        assert!(told.len() == 1 && told[0].contains("c:3") && told[0].contains("--admin-from"), "{told:?}");
        assert!(refusals(br#"{"status":"OK","data":{"purged":1}}"#).is_empty());
    }
}
