//! The bodies in which object stores tell of changes, as the keys of documents.
//!
//! ```text
//!   Amazon S3          {"Records":[{"eventSource":"aws:s3","s3":{"object":{"key":"data/article/7.json"}}}]}
//!   EventBridge        {"source":"aws.s3","detail":{"object":{"key":"data/article/7.json"}}}
//!   Google Pub/Sub     {"message":{"attributes":{"eventType":"OBJECT_FINALIZE","objectId":"data/article/7.json"}}}
//!   Azure Event Grid   [{"eventType":"Microsoft.Storage.BlobCreated","subject":"/blobServices/…/blobs/data/article/7.json"}]
//! ```
//! That an object was written and that it was deleted are one: the document is to be asked for again.

use serde_json::Value;

use super::query;
use crate::wire::KeyBuf;
use crate::wire::escape::encoded;

/// What a body says.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// These objects have changed.
    Objects(Vec<String>),
    /// Event Grid asks if it may send here: the answer is this code.
    Handshake(String),
}

/// What a body of a store says; `None` for any other body.
pub(super) fn read(body: &Value) -> Option<Event> {
    let objects = match body {
        Value::Array(events) => return of_event_grid(events),
        _ if body["Event"] == "s3:TestEvent" => Vec::new(),
        _ if body["source"] == "aws.s3" => vec![text(&body["detail"]["object"]["key"])?],
        _ if body["Records"].is_array() => {
            let records = body["Records"].as_array()?;
            records.iter().map(of_s3).collect::<Option<_>>()?
        }
        _ => vec![text(&body["message"]["attributes"]["objectId"])?],
    };
    Some(Event::Objects(objects))
}

/// S3 itself writes names as a form does.
fn of_s3(record: &Value) -> Option<String> {
    let written = format!("key={}", record["s3"]["object"]["key"].as_str()?);
    query::value(&written, "key")
}

fn of_event_grid(events: &[Value]) -> Option<Event> {
    let mut objects = Vec::new();
    for event in events {
        let kind = event["eventType"].as_str()?;
        if kind == "Microsoft.EventGrid.SubscriptionValidationEvent" {
            return text(&event["data"]["validationCode"]).map(Event::Handshake);
        }
        if kind.starts_with("Microsoft.Storage.") {
            // Of a directory, or of a rule, it names no object.
            let object = event["subject"].as_str()?.split_once("/blobs/");
            objects.extend(object.map(|(_, name)| name.to_owned()));
        }
    }
    Some(Event::Objects(objects))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The key of an object beneath a prefix; `None` if it is not beneath, or no document.
pub(super) fn key(object: &str, prefix: &str) -> Option<String> {
    let name = object.strip_prefix(prefix)?;
    let key = encoded(name.strip_suffix(".json").unwrap_or(name)).into_owned();
    KeyBuf::parse(&key).is_ok().then_some(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fuzz::{Fuzz, outcome};
    use crate::wire::Key;

    #[test]
    fn events_survive_any_bytes() {
        let fuzz = Fuzz {
            samples: &[
                br#"{"Records":[{"eventSource":"aws:s3","s3":{"object":{"key":"docs/caf%C3%A9+1.json"}}}]}"#,
                br#"{"source":"aws.s3","detail":{"object":{"key":"docs/a/1.json"}}}"#,
                br#"{"message":{"attributes":{"objectId":"docs/a/1.json"}}}"#,
                br#"[{"eventType":"Microsoft.Storage.BlobCreated","subject":"/b/containers/c/blobs/docs/a/1.json"}]"#,
                br#"[{"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"7"}}]"#,
            ],
            words: &["\"Records\":", "[", "]", "{", "}", "null", "\"s3\":", "%", "..", "/", "\\u0000", "docs/", ".json"],
        };
        fuzz.run(|bytes| {
            let Ok(body) = serde_json::from_slice(bytes) else { return outcome(0) };
            match read(&body) {
                Some(Event::Objects(objects)) => {
                    let keys: Vec<String> =
                        objects.iter().filter_map(|object| key(object, "docs/")).collect();
                    assert!(keys.iter().all(|key| Key::parse(key).is_ok()), "{keys:?}");
                    outcome((objects.len(), keys.len()))
                }
                Some(Event::Handshake(_)) => outcome(1),
                None => outcome(2),
            }
        });
    }

    fn objects(names: &[&str]) -> Option<Event> {
        Some(Event::Objects(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    #[test]
    fn each_store_has_its_own_form() {
        let s3 = |key: &str| json!({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"object": {"key": key}}});
        assert_eq!(
            read(&json!({"Records": [s3("a/1.json"), s3("a/x+y%2B.json")]})),
            objects(&["a/1.json", "a/x y+.json"])
        );
        assert_eq!(read(&json!({"Service": "Amazon S3", "Event": "s3:TestEvent"})), objects(&[]));
        let bridged = json!({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {"object": {"key": "a/x y.json"}}});
        assert_eq!(read(&bridged), objects(&["a/x y.json"]));
        let attributes = json!({"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "a/1.json"});
        assert_eq!(
            read(&json!({"message": {"attributes": attributes}, "subscription": "s"})),
            objects(&["a/1.json"])
        );
        let blob = |kind: &str, name: &str| {
            let subject = format!("/blobServices/default/containers/c/blobs/{name}");
            json!({"eventType": format!("Microsoft.Storage.{kind}"), "subject": subject})
        };
        let other =
            json!({"eventType": "Microsoft.Storage.LifecyclePolicyCompleted", "subject": "ListResults/x"});
        let grid = json!([blob("BlobCreated", "a/1.json"), other, blob("BlobDeleted", "a/blobs/2.json")]);
        assert_eq!(read(&grid), objects(&["a/1.json", "a/blobs/2.json"]));
        let asked = json!([{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "c0de"}}]);
        assert_eq!(read(&asked), Some(Event::Handshake("c0de".to_owned())));
    }

    #[test]
    fn any_other_body_is_none_of_a_store() {
        let others = [
            json!({}),
            json!(7),
            json!([7]),
            json!({"changed": ["a/1"]}),
            json!({"Records": [{}]}),
            json!({"source": "aws.s3"}),
            json!({"message": {"attributes": {}}}),
            json!([{"eventType": "Microsoft.Storage.BlobCreated"}]),
        ];
        for body in others {
            assert_eq!(read(&body), None, "{body}");
        }
    }

    #[test]
    fn objects_beneath_the_prefix_are_documents() {
        let read = |object: &str| key(object, "data/");
        assert_eq!(read("data/article/7.json").as_deref(), Some("article/7"));
        assert_eq!(read("data/product/café noir.json").as_deref(), Some("product/caf%C3%A9%20noir"));
        assert_eq!(read("data/article/7").as_deref(), Some("article/7"));
        for other in ["article/7.json", "data/index.json", "data/article/../7.json", "data/article/", "data"]
        {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(key("article/7.json", "").as_deref(), Some("article/7"));
    }
}
