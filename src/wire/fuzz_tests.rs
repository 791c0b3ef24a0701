//! Whatever bytes come: what is accepted is sound, and is the same when it is read again.

use std::mem::discriminant;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::escape::{canonical, decoded, encoded};
use super::key::Pattern;
use super::{Document, Key, ReplyView, Request};
use crate::fuzz::{Fuzz, outcome};

#[test]
fn requests_survive_any_bytes() {
    let fuzz = Fuzz {
        samples: &[
            b"GET article/7",
            b"GET product/7?fields=price&lang=de deadline=250 tell=times trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"PURGE soft tag:eu",
            b"PURGE price/* deadline=9",
            b"WATCH 9f00000000000000 41 wait=500",
            b"WATCH - 0 wait=1",
            b"CHANGED article/7 price/* tag:eu wait=all soft",
            b"EXPLAIN caf%C3%A9/1",
            b"DRAIN force [::1]:8001",
            b"METRICS 127.0.0.1:8001",
            b"HELLO 2",
        ],
        words: &[
            "GET ", "PURGE ", "soft ", "WATCH ", "CHANGED ", "DRAIN ", "force ", "UNDRAIN ", "METRICS ", "EXPLAIN ",
            "deadline=", "wait=", "tell=times", "trace=", "wait=all", "/*", "tag:", "%C3%A9", "%2F", "?a=1&b=2",
            "99999999999999999999", "..", " ", "\t",
        ],
    };
    fuzz.run(|bytes| {
        let Ok(line) = std::str::from_utf8(bytes) else { return outcome(0) };
        match Request::parse_with_options(line) {
            Ok((request, options)) => {
                if let Request::Get(key) | Request::Explain(key) = request {
                    assert_sound(key);
                }
                outcome((discriminant(&request), options.deadline.is_some()))
            }
            Err(error) => outcome(discriminant(&error)),
        }
    });
}

fn assert_sound(key: Key<'_>) {
    assert_eq!(Key::parse(key.as_str()), Ok(key));
    assert_eq!(key.to_owned().as_key(), key);
    assert_eq!(format!("{}/{}", key.resource(), key.name()), key.path());
    let text = decoded(key.path()).expect("a key stands for a text");
    assert_eq!(encoded(&text), key.path(), "one document has one key");
    assert!(!text.split('/').any(|segment| segment.is_empty() || segment.starts_with('.')), "{text:?}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[test]
fn keys_and_patterns_survive_any_bytes() {
    let fuzz = Fuzz {
        samples: &[
            b"article/7",
            b"a/b/*",
            b"tag:eu",
            b"product/caf%C3%A9%20noir",
            b"p/7?a=%26&b=/&b=2",
            b"a/1?",
        ],
        words: &[
            "%", "%C3%A9", "%2F", "%00", "%41", "/", "//", "/.", "?", "&", "=", "*", "tag:", "~", "\u{e9}",
        ],
    };
    fuzz.run(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return outcome(0) };
        let path = canonical(text);
        assert_eq!(canonical(&path), path, "once is enough");
        match (Key::parse(&path), Pattern::parse(text)) {
            (key, Ok(pattern)) => {
                let written = pattern.to_string();
                assert_eq!(Pattern::parse(&written), Ok(pattern));
                outcome((key.is_ok(), discriminant(&pattern)))
            }
            (Ok(key), Err(error)) => {
                assert_sound(key);
                outcome((key.query().is_some(), discriminant(&error)))
            }
            (Err(key), Err(pattern)) => outcome((discriminant(&key), discriminant(&pattern))),
        }
    });
}

#[test]
fn replies_survive_any_bytes() {
    let fuzz = Fuzz {
        samples: &[
            br#"{"status":"OK","data":{"a":[1,2.5e3,"x\u00e9"]},"cache_hit":true,"node":8001,"stale":true,"age":3}"#,
            br#"{"status":"OK","data":{},"epoch":"9f00000000000000","seq":7,"name":"eu-1","fresh_for":6,"lifetime":10}"#,
            br#"{"status":"ORIGIN_FAILURE","data":"why","node":8001.0,"fault":"document"}"#,
            br#"{"status":"WRONG_METHOD: PUT"}"#,
        ],
        words: &[
            "\"status\":", "\"data\":", "\"OK\"", "\"NOT_FOUND\"", "\"age\":", "\"node\":", "\"seq\":", "null", "true", "1e999",
            "-0", "[[[[", "{\"", "\\u", "\\", " ", "\n", "18446744073709551616", "\u{fffd}",
        ],
    };
    fuzz.run(|bytes| match ReplyView::parse(bytes) {
        Ok(view) => {
            assert!(serde_json::from_slice::<IgnoredAny>(bytes).is_ok(), "the line is JSON");
            assert!(serde_json::from_str::<IgnoredAny>(view.data).is_ok(), "and so is its document");
            outcome((view.status, view.cache_hit, view.stale, view.age.is_some(), view.position.is_some()))
        }
        Err(error) => outcome(discriminant(&error)),
    });
}

#[test]
fn documents_survive_any_bytes() {
    let fuzz = Fuzz {
        samples: &[
            b"{\"n\": [1.10, 1E+2, -0], \"a\": 1, \"a\": 2, \"s\": \"\\u00e9 \\/\"}\n",
            "\u{feff}{\"\u{e9}\":null}".as_bytes(),
            b"[[[]],{},true,false,\"\"]",
        ],
        words: &[
            "[[[[[[[[", "]]]]", "{\"a\":", "}", ",", "1e5", "-", "0.", "\"", "\\ud800", "\\", "null", " ",
            "\r\n", "\u{7f}", "\0",
        ],
    };
    fuzz.run(|bytes| {
        let theirs = serde_json::from_slice::<IgnoredAny>(bytes);
        match Document::parse(bytes, 2_000) {
            Ok(document) => {
                assert!(theirs.is_ok(), "what is served is JSON");
                let again = Document::parse(document.as_ref(), 2_000).expect("what is served is a document");
                assert_eq!(again.as_str(), document.as_str(), "and has no white space to remove");
                let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
                assert_eq!(value(bytes), value(document.as_ref()), "nothing else changed");
                outcome((document.len().ilog2(), document.len() < bytes.len()))
            }
            Err(error) => {
                let is_text = std::str::from_utf8(bytes).is_ok() && bytes.len() <= 2_000;
                assert!(theirs.is_err() || !is_text, "all JSON is served: {error}");
                outcome(error.to_string().split(|letter: char| letter.is_ascii_digit()).next())
            }
        }
    });
}
