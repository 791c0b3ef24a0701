//! EXPLAIN: why is this document old, why does it fail, by which rule does it live, whom is it asked of.

use serde_json::Value;

use crate::support::http::fetch;
use crate::support::moody::explain;
use crate::support::{Address, Data, Node, Start, get, until};

fn age(said: &Value) -> f64 {
    said["age_seconds"].as_f64().unwrap_or_else(|| panic!("no age in {said}"))
}

#[test]
fn a_broken_file_is_the_last_error_of_its_own_key() {
    let data = Data::articles(3);
    let origin = Start::origin(data.path(), "--changes off --settle-time 0").run();
    let proxy = Start::proxy(origin.address, "--ttl 100ms --origin-retry 1m").run();
    get(proxy.address, "article/2");
    get(proxy.address, "article/3");
    data.put("article/3", b"{\"id\":");
    until("it is served stale", || get(proxy.address, "article/3")["stale"] == true);
    let told = explain(&proxy, "article/3");
    let why = told["last_error"].as_str().unwrap_or_else(|| panic!("no error in {told}"));
    assert!(why.contains("JSON"), "{why}");
    assert!(told["last_error_age_seconds"].as_f64().is_some_and(|age| age < 30.0), "{told}");
    assert!(told["tried_again_in_seconds"].as_f64().is_some_and(|time| time > 1.0), "{told}");
    assert_eq!((&told["rule"], &told["state"]), (&"flag".into(), &"stale".into()));
    assert_eq!(told["asked_of"], origin.address.to_string());
    assert_eq!(explain(&proxy, "article/2")["last_error"], Value::Null, "it is of no other key");
}

#[test]
fn a_balancer_without_homes_tells_of_all_proxies_and_of_the_oldest_copy_first() {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "--changes off").run();
    let mut proxies: Vec<Node> = (0..3).map(|_| Start::proxy(origin.address, "--ttl 1h").run()).collect();
    let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
    let words = "--strategy least_loaded --health-interval 50ms --max-failures 1";
    let balancer = Start::balancer(&addresses, words).run();
    get(addresses[1], "article/1");
    until("it is some milliseconds older", || age(&explain(&proxies[1], "article/1")) > 0.05);
    get(addresses[0], "article/1");
    let told = explain(&balancer, "article/1");
    let of = |told: &Value| -> Vec<String> {
        let said = told["proxies"].as_array().expect("all proxies").iter();
        said.map(|said| said["proxy"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(of(&told), [1, 0, 2].map(|index: usize| addresses[index].to_string()), "{told}");
    assert_eq!((&told["proxy"], &told["cached"]), (&addresses[1].to_string().into(), &true.into()));
    assert!(age(&told["proxies"][0]) > age(&told["proxies"][1]), "{told}");
    assert_eq!(told["proxies"][2]["cached"], false);
    assert!(told["next"].is_string() && told["goes_by_key"] == false, "{told}");

    proxies.remove(0).kill();
    until("the dead one is last, and why", || {
        let told = explain(&balancer, "article/1");
        of(&told)[2] == addresses[0].to_string() && told["proxies"][2]["error"].is_string()
    });
}

#[test]
fn whoever_asks_for_a_broken_document_gets_the_sentence_of_the_origin() {
    let data = Data::articles(1);
    data.put("article/bad", b"{\"a\": 1,\n  \"b\": tru }\n");
    let origin = Start::origin(data.path(), "--changes off --settle-time 0").run();
    let mut proxy = Start::proxy(origin.address, "--http-port 0").run();
    let http = proxy.serves_http();
    let balancer = Start::balancer(&[proxy.address], "").run();
    let sentence = "the document is not JSON: unexpected byte at offset 19, line 2, column 11";
    for node in [origin.address, proxy.address, balancer.address, origin.address] {
        assert_eq!(get(node, "article/bad")["data"], sentence);
    }
    assert_eq!(fetch(http, "/article/bad").json()["detail"], sentence);
    let said = origin.log();
    assert_eq!(said.matches("a document cannot be served").count(), 1, "once: {said}");
    assert!(said.contains("WARN") && said.contains(sentence), "{said}");
}
