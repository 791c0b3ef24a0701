//! `client --follow` prints documents as they change.

use std::fs;

use serde_json::{Value, json};

use crate::support::ask::parse;
use crate::support::command::{dproxy, text};
use crate::support::{Address, Data, Node, Start, until};

/// A client that follows these names.
fn follower(origin: Address, names: &str) -> Node {
    let client = Start::role("client", &format!("--port {} --follow {names}", origin.port())).spawn();
    until("it follows", || client.log().contains("following"));
    client
}

fn printed(client: &mut Node) -> (Value, Value) {
    let mut line = parse(&client.prints());
    (line["key"].take(), line["data"].take())
}

fn data() -> Data {
    let data = Data::empty();
    data.put("article/1", b"1");
    data.put("price/1", b"1");
    data
}

#[test]
fn a_saved_file_is_printed_at_once_and_others_are_not() {
    let data = data();
    let origin = Start::origin(data.path(), "").run();
    let mut client = follower(origin.address, "article/*");
    data.put("price/1", b"2");
    for number in [10, 11] {
        data.put("article/1", number.to_string().as_bytes());
        // A write may be seen twice.
        let mut seen = printed(&mut client);
        while seen.1 == number - 1 {
            seen = printed(&mut client);
        }
        assert_eq!(seen, (json!("article/1"), json!(number)));
    }
    fs::remove_file(data.file("article/1")).expect("a file is removed");
    until("its end is printed", || client.prints().contains("NOT_FOUND"));
    assert!(!client.log().contains("may have changed"), "{}", client.log());
}

#[test]
fn an_origin_that_begins_anew_is_followed_and_the_gap_is_told() {
    let data = data();
    let origin = Start::origin(data.path(), "--changes told").run();
    let address = origin.address;
    let mut client = follower(address, "article/1");
    origin.kill();
    until("the loss is told", || client.log().contains("tried again"));
    let _origin = Start::origin(data.path(), &format!("--changes told --port {}", address.port())).run();
    until("the gap is told", || client.log().contains("any document may have changed"));
    let port = address.port().to_string();
    let changed = |names: &[&str]| {
        let output = dproxy(&[&["client", "--port", &port, "--changed"], names].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    changed(&["price/1"]);
    changed(&["article/1"]);
    assert_eq!(printed(&mut client), (json!("article/1"), json!(1)));
    changed(&["article/*"]);
    assert_eq!(printed(&mut client), (json!("article/1"), json!(1)), "the prefix of it");
    changed(&["tag:x"]);
    until("a tag is told", || client.log().contains("tag:x"));
}

#[test]
fn a_node_that_tells_of_no_changes_is_not_followed() {
    let data = data();
    let origin = Start::origin(data.path(), "--changes off").run();
    let output = dproxy(&["client", "--port", &origin.port().to_string(), "--follow", "article/*"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), String::new()));
    assert!(text(&output.stderr).contains("WRONG_METHOD"), "{}", text(&output.stderr));
    let output = dproxy(&["client", "--port", &origin.port().to_string(), "--follow", "article"]);
    assert_eq!(output.status.code(), Some(2));
}
