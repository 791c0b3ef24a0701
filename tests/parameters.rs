//! Parameters of documents: a part of the key from the client to the API, the same however they are written.

use serde_json::json;

use crate::support::api::{Api, ok};
use crate::support::ask::parse;
use crate::support::http::fetch;
use crate::support::{Data, Start, ask, get};

#[test]
fn documents_with_parameters_are_told_apart_from_client_to_api() {
    let api = Api::start(|got| ok("", json!(got.target).to_string()));
    let words = format!(
        "--origin {}/v1/{{path}}.json?v=2 --query fields,lang --ignore-query utm_* --http-port 0",
        api.url()
    );
    let mut proxy = Start::role("proxy", &words).run();
    let mut balancer = Start::balancer(&[proxy.address], "--query lang,fields --http-port 0").run();
    let key = "product/7?fields=a,b&lang=de%20at";
    let target = "/v1/product/7.json?v=2&fields=a%2Cb&lang=de%20at";
    for node in [proxy.address, balancer.address] {
        assert_eq!(get(node, key)["data"], target);
        assert_eq!(get(node, "product/7")["data"], "/v1/product/7.json?v=2");
        for (other, why) in [
            ("product/7?lang=de&fields=a", "sorted by name"),
            ("product/7?lang", "sorted by name"),
            ("product/7?user=1", "parameter user; --query"),
            ("product/7?fields=a&user=1", "parameter user; --query"),
        ] {
            let refused = get(node, other);
            assert_eq!(refused["status"], "BAD_REQUEST", "{refused}");
            assert!(refused["data"].as_str().unwrap().contains(why), "{refused}");
        }
    }
    let fronts = [proxy.serves_http(), balancer.serves_http()];
    for http in fronts {
        for query in ["lang=de+at&fields=a,b", "fields=a%2cb&&lang=de%20at", "lang=de%20at&%66ields=a%2Cb"] {
            assert_eq!(fetch(http, &format!("/product/7?{query}")).json(), *target, "{query}");
        }
        let refused = fetch(http, "/product/7?lang=de&user=1");
        assert_eq!((refused.code, refused.text().contains("user")), (400, true), "{}", refused.text());
    }
    assert_eq!(fetch(fronts[0], "/product/7?utm_source=x").json(), "/v1/product/7.json?v=2");
    assert_eq!((api.requests_for(target).len(), api.requests().len()), (1, 2), "one document has one key");
}

#[test]
fn a_purge_of_a_document_takes_all_its_variants() {
    let api = Api::start(|got| ok("", json!([got.target, got.number_of_its_target]).to_string()));
    let proxy = Start::role("proxy", &format!("--origin {} --query lang", api.url())).run();
    let balancer = Start::balancer(&[proxy.address], "").run();
    let keys = ["product/7", "product/7?lang=de", "product/7?lang=en", "product/70", "product/70?lang=de"];
    let times = || keys.map(|key| get(balancer.address, key)["data"][1].clone());
    assert_eq!(times(), [0, 0, 0, 0, 0]);
    let purge = |what: &str| parse(&ask(balancer.address, &format!("PURGE {what}")));
    let purged = purge("product/7");
    assert_eq!((&purged["status"], &purged["data"]["purged"]), (&"OK".into(), &3.into()), "{purged}");
    assert_eq!(times(), [1, 1, 1, 0, 0]);
    assert_eq!(purge("product/7?lang=de")["data"]["purged"], 1);
    assert_eq!(times(), [1, 2, 1, 0, 0]);
    assert_eq!(purge("product/*")["data"]["purged"], 5);
    assert_eq!(times(), [2, 3, 2, 1, 1]);
}

#[test]
fn no_file_has_parameters_and_without_the_flag_none_is_dropped() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "").run();
    assert_eq!(get(origin.address, "article/1?lang=de")["status"], "NOT_FOUND");
    let (with, without) =
        (Start::proxy(origin.address, "--query lang").run(), Start::proxy(origin.address, "").run());
    assert_eq!(get(with.address, "article/1?lang=de")["status"], "NOT_FOUND");
    assert_eq!(get(without.address, "article/1?lang=de")["status"], "BAD_REQUEST");
    assert_eq!(get(with.address, "article/1")["status"], "OK");
}
