//! Replies to the byte, written and read.

use super::*;

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes(), 1000).unwrap()
}

#[test]
fn frames_to_the_byte() {
    let served =
        Served { cache_hit: true, node: 8001, age: 3, stale: false, fresh_for: None, ..Served::default() };
    let hit = Reply::document(document("[1.10]")).with(served);
    assert_eq!(hit.to_line(), r#"{"status":"OK","data":[1.10],"cache_hit":true,"node":8001}"#);
    let stale = Reply::document(document("[1.10]")).with(Served { stale: true, ..served });
    let line = r#"{"status":"OK","data":[1.10],"cache_hit":true,"node":8001,"stale":true,"age":3}"#;
    assert_eq!(stale.to_line(), line);
    let gone = Reply::null(Status::NotFound);
    assert_eq!(gone.to_line(), r#"{"status":"NOT_FOUND","data":null}"#);
    let bad = Reply::text(Status::BadRequest, "a \"quote\"");
    assert_eq!(bad.to_line(), r#"{"status":"BAD_REQUEST","data":"a \"quote\""}"#);
    let mut framed = Vec::new();
    hit.frame(Some(42), false, &mut framed);
    assert_eq!(framed, b"42 {\"status\":\"OK\",\"data\":[1.10],\"cache_hit\":true,\"node\":8001}\n");
    for (fresh_for, told) in [(Some(27), r#","age":3,"fresh_for":27}"#), (None, r#","age":3}"#)] {
        let mut framed = Vec::new();
        let hit = Reply::document(document("[1.10]")).with(Served { fresh_for, ..served });
        hit.frame(Some(42), true, &mut framed);
        let framed = String::from_utf8(framed).unwrap();
        assert!(framed.ends_with(&format!("\"node\":8001{told}\n")), "{framed}");
        let view = ReplyView::parse(&framed.as_bytes()[3..]).unwrap();
        assert_eq!((view.age, view.fresh_for, view.stale), (Some(3), fresh_for, false));
    }
}

#[test]
fn only_sessions_tell_whose_fault_an_error_is() {
    let framed = |reply: &Reply, id| {
        let mut framed = Vec::new();
        reply.frame(id, false, &mut framed);
        String::from_utf8(framed).unwrap()
    };
    let own = Reply::text(Status::OriginFailure, "x").blaming_document(true);
    assert_eq!(framed(&own, None), "{\"status\":\"ORIGIN_FAILURE\",\"data\":\"x\"}\n");
    let line = framed(&own, Some(7));
    assert_eq!(line, "7 {\"status\":\"ORIGIN_FAILURE\",\"data\":\"x\",\"fault\":\"document\"}\n");
    let line = Bytes::copy_from_slice(&line.trim_end().as_bytes()[2..]);
    assert!(ReplyView::parse(&line).unwrap().blames_document);
    let relayed = Reply::relayed(Status::OriginFailure, line);
    assert_eq!(
        (framed(&relayed, None), framed(&relayed, Some(7))),
        (framed(&own, None), framed(&own, Some(7)))
    );
}

#[test]
fn reads_what_older_nodes_write() {
    let line = br#"{"status": "OK", "data": {"a": [1, 2]}, "cache_hit": false, "node": 8001.0}"#;
    let view = ReplyView::parse(line).unwrap();
    assert_eq!((view.status, view.cache_hit), (Status::Ok, Some(false)));
    assert_eq!(view.document("", 100).unwrap().as_str(), r#"{"a":[1,2]}"#);
    let view = ReplyView::parse(br#"{"status": "WRONG_METHOD: PUT", "data": null}"#).unwrap();
    assert_eq!(view.status, Status::WrongMethod);
    let view = ReplyView::parse(br#"{"status":"NOT_FOUND","data":"no such thing","new":[{}]}"#).unwrap();
    assert_eq!((view.status, view.data), (Status::NotFound, "\"no such thing\""));
}

#[test]
fn refuses_what_is_no_reply() {
    for line in [
        "",
        "null",
        "[]",
        "{}",
        "OK",
        r#"{"status":"OK"}"#,
        r#"{"status":"YES","data":1}"#,
        r#"{"data":1}"#,
        r#"{"status":1,"data":1}"#,
        r#"{"status":"OK","data":1"#,
        r#"{"status":"OK","data":1}}"#,
        r#"{"status":"OK","data":1} {"status":"OK","data":1}"#,
        r#"{"status":"OK","data":{]}"#,
        r#"{"status":"OK","data":1,"data":2}"#,
        r#"{"status":"CLIENT_CONNECTION_ERROR","data":null}"#,
    ] {
        assert!(ReplyView::parse(line.as_bytes()).is_err(), "{line}");
    }
    assert!(ReplyView::parse(b"{\"status\":\"OK\",\"data\":\"\xff\"}").is_err());
}
