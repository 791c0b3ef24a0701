//! What a node says of the changes of documents, as a text for people.

use serde_json::Value;

/// Of an origin, who is told; of a proxy, whether it hears. Empty for a node that has nothing to do with changes.
pub(super) fn heard(metrics: &Value) -> String {
    if let Some(watchers) = metrics["changes"]["watchers"].as_u64() {
        let told = &metrics["changes"];
        let last = told["told_seconds_ago"].as_f64().map(|ago| format!(", last change {ago:.0} s ago"));
        let took = told["everywhere_seconds"]
            .as_f64()
            .map(|took| format!(", everywhere in {:.0} ms", took * 1000.0));
        return format!("{watchers} told of changes{}{}", last.unwrap_or_default(), took.unwrap_or_default());
    }
    let text = match metrics["push"]["state"].as_str() {
        Some("live") => "hears of changes",
        Some("lapsed") => "does not hear of changes",
        _ => "",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn origins_tell_and_proxies_hear() {
        for (metrics, text) in [
            (
                json!({"changes": {"watchers": 16, "told_seconds_ago": 3.2, "everywhere_seconds": 0.012}}),
                "16 told of changes, last change 3 s ago, everywhere in 12 ms",
            ),
            (json!({"changes": {"watchers": 0, "told_seconds_ago": null}}), "0 told of changes"),
            (json!({"push": {"state": "live"}}), "hears of changes"),
            (json!({"push": {"state": "lapsed"}}), "does not hear of changes"),
            (json!({"push": {"state": "off"}}), ""),
            (json!({}), ""),
        ] {
            assert_eq!(heard(&metrics), text);
        }
    }
}
