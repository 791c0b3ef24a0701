//! `POST /changed`: whoever has the token says over HTTP that documents have changed, and nobody else does.

use std::fs;

use serde_json::json;

use crate::support::http::{Http, Response};
use crate::support::{Address, Data, Node, Start, TempDir, get};

fn post(to: Address, headers: &[&str], body: &str) -> Response {
    Http::connect(to).ask("POST", "/changed", headers, body)
}

/// A proxy that holds an article, and a directory with its token.
struct Hooked {
    data: Data,
    secrets: TempDir,
    _origin: Node,
    proxy: Node,
    http: Address,
}

impl Hooked {
    fn start(words: &str) -> Self {
        let (data, secrets) = (Data::empty(), TempDir::new());
        data.put("article/1", b"1");
        let token = secrets.path().join("token");
        fs::write(&token, "s3cret\n").expect("a file");
        let origin = Start::origin(data.path(), "--changes told").run();
        let mut proxy = Start::proxy(origin.address, &format!("--ttl 1h --http-port 0 {words}"))
            .arg("--changed-token-file")
            .arg(&token.display().to_string())
            .run();
        let http = proxy.serves_http();
        get(proxy.address, "article/1");
        data.put("article/1", b"2");
        Self { data, secrets, _origin: origin, proxy, http }
    }

    fn document(&self) -> serde_json::Value {
        get(self.proxy.address, "article/1")["data"].clone()
    }
}

#[test]
fn a_webhook_with_the_token_is_believed() {
    let hooked = Hooked::start("");
    let body = r#"{"changed":["article/1","price/*"],"wait":"all"}"#;
    let response = post(hooked.http, &["authorization: Bearer s3cret"], body);
    assert_eq!((response.code, response.header("content-type")), (200, "application/json"));
    assert_eq!((&response.json()["seq"], &response.json()["lapsed"]), (&json!(2), &json!(0)));
    assert_eq!(hooked.document(), 2);
    // The token is another from now on.
    fs::write(hooked.secrets.path().join("token"), "an0ther").expect("a file");
    hooked.data.put("article/1", b"3");
    assert_eq!(post(hooked.http, &["authorization: Bearer s3cret"], body).code, 403);
    assert_eq!(hooked.document(), 2);
    assert_eq!(post(hooked.http, &["authorization: bearer an0ther"], body).code, 200);
    assert_eq!(hooked.document(), 3);
    assert!(!hooked.proxy.log().contains("s3cret"));
}

#[test]
fn the_event_of_an_object_store_is_understood() {
    let hooked = Hooked::start("");
    let (right, path) = (["authorization: Bearer s3cret"], "/changed?prefix=site/data/");
    let s3 = json!({"s3": {"object": {"key": "site/data/article/1.json"}}});
    let blob = "/blobServices/default/containers/c/blobs/site/data/article/1.json";
    let events = [
        json!({"Records": [s3]}),
        json!({"source": "aws.s3", "detail": {"object": {"key": "site/data/article/1.json"}}}),
        json!({"message": {"attributes": {"eventType": "OBJECT_FINALIZE", "objectId": "site/data/article/1.json"}}}),
        json!([{"eventType": "Microsoft.Storage.BlobCreated", "subject": blob}]),
    ];
    let say =
        |event: &serde_json::Value| Http::connect(hooked.http).ask("POST", path, &right, &event.to_string());
    for (number, event) in (10..).zip(&events) {
        get(hooked.proxy.address, "article/1");
        hooked.data.put("article/1", number.to_string().as_bytes());
        assert_eq!(Http::connect(hooked.http).ask("POST", path, &[], &event.to_string()).code, 403);
        let response = say(event);
        assert_eq!(response.code, 200, "{}", response.text());
        assert!(response.json()["seq"].is_u64(), "{}", response.text());
        assert_eq!(hooked.document(), number);
    }
    let asked = json!([{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "c0de"}}]);
    assert_eq!(say(&asked).json(), json!({"validationResponse": "c0de"}));
    let elsewhere = json!({"source": "aws.s3", "detail": {"object": {"key": "site/images/1.png"}}});
    assert_eq!(say(&elsewhere).json(), json!({"ignored": 1}));
}

#[test]
fn nobody_else_is() {
    let hooked = Hooked::start("--cors-origin *");
    let (right, body) = ("authorization: Bearer s3cret", r#"{"changed":["article/1"]}"#);
    let large = format!(r#"{{"changed":["article/{}"]}}"#, "1".repeat(1 << 20));
    for (headers, body, status, word) in [
        (&[][..], body, 403, "Bearer"),
        (&["authorization: Bearer s3cre"], body, 403, "Bearer"),
        (&["authorization: Basic s3cret"], body, 403, "Bearer"),
        (&["content-type: text/plain", right], body, 400, "application/json"),
        (&[right], " ", 400, "article/7"),
        (&[right], r#"{"changed":[]}"#, 400, "CHANGED"),
        (&[right], r#"{"changed":["article/../1"]}"#, 400, ""),
        (&[right], r#"{"changed":["article/1"],"wait":"one"}"#, 400, "article/7"),
        (&[right], &large, 400, "longer"),
    ] {
        let response = post(hooked.http, headers, body);
        assert_eq!((response.code, response.header("content-type")), (status, "application/problem+json"));
        assert!(response.text().contains(word), "{headers:?}: {}", response.text());
    }
    // A page asks beforehand, and is not let.
    let asked = ["origin: https://a.example", "access-control-request-method: POST"];
    let response = Http::connect(hooked.http).ask("OPTIONS", "/changed", &asked, "");
    assert!(!response.header("access-control-allow-methods").contains("POST"));
    fs::write(hooked.secrets.path().join("token"), "").expect("a file");
    assert_eq!(post(hooked.http, &["authorization: Bearer "], body).code, 403, "an empty token");
    assert_eq!(hooked.document(), 1);
    let elsewhere = Hooked::start("--admin-from 10.0.0.0/8");
    let response = post(elsewhere.http, &[right], body);
    assert!(response.code == 403 && response.text().contains("--admin-from"), "{}", response.text());
    let mut without = Start::proxy(elsewhere.proxy.address, "--http-port 0").run();
    let http = without.serves_http();
    let response = post(http, &[right], body);
    assert!(response.code == 403 && response.text().contains("--changed-token-file"), "{}", response.text());
}
