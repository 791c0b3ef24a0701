//! The scanner beside serde_json, whose word on what is JSON it has to agree with.

use super::strings::BLOCK;
use super::*;

fn strictly(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

#[test]
fn agrees_with_serde_json() {
    let samples = [
        "{}",
        "[]",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1.10",
        "1E+2",
        "1e-9",
        "\"\"",
        "\"a\\u00e9\\/\"",
        "[1,2,[3,{\"a\":[]}]]",
        "{\"a\":1,\"a\":2}",
        " [ 1 , 2 ] ",
        "123456789012345678901234567890",
        "",
        " ",
        "nul",
        "NaN",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"abc",
        "[1",
        "{\"a\":1",
        "1 2",
        "{}{}",
        "]",
        "}",
        "[}",
        "{]",
        "\"\\",
        "tru",
        "truee",
        "\"\u{1f}\"",
        "[1 2]",
        "{\"a\" 1}",
        "{1:2}",
        "// 1",
    ];
    for text in samples {
        assert_eq!(check(text).is_ok(), strictly(text), "{text:?}");
    }
}

#[test]
fn agrees_with_serde_json_on_mutations() {
    let seed = r#"{"a":[1,-2.5e+3,"x\u00e9\"y",{"long":"0123456789abcdef"},null,true],"b":{"c":[[]]}}"#;
    let mut random = fastrand::Rng::with_seed(7);
    let alphabet = b"{}[]\",:\\0123eE+-.tfnu \n\x01ax";
    for _ in 0..200_000 {
        let mut bytes = seed.as_bytes().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = alphabet[random.usize(..alphabet.len())],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, alphabet[random.usize(..alphabet.len())]),
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(check(&text).is_ok(), strictly(&text), "{text:?}");
        if check(&text).is_ok() {
            let tight = strip(&text);
            assert_eq!(check(&tight), Ok(false), "{text:?}");
        }
    }
}

#[test]
fn finds_every_special_byte_at_every_place_of_a_string() {
    // The last two end beyond one block and beyond two.
    for length in (0..100).chain([1_000, 5_000, BLOCK + 60, 2 * BLOCK + 60]) {
        let plain = format!("\"{}\"", "x".repeat(length));
        assert_eq!(check(&plain), Ok(false));
        for at in (1..=length).rev().take(100) {
            let with = |byte: &str| [&plain[..at], byte, &plain[at + 1..]].concat();
            for control in ["\0", "\n", "\u{1f}"] {
                assert_eq!(check(&with(control)), Err(JsonError::Unexpected(at)), "{length} {at}");
            }
            assert_eq!(check(&with("\"")), Err(JsonError::Trailing(at + 1)), "{length} {at}");
            for sound in [" ", "\u{7f}", "é", "\\n"] {
                assert_eq!(check(&with(sound)), Ok(false), "{length} {at}");
            }
        }
    }
}

#[test]
fn strips_only_outside_of_strings() {
    let text = "{\r\n  \"a b\" : [ 1.10, \"\\\" x \\\\\" , -0 ]\t}\n";
    assert_eq!(check(text), Ok(true));
    assert_eq!(strip(text), r#"{"a b":[1.10,"\" x \\",-0]}"#);
}

#[test]
fn bounds_the_nesting() {
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert_eq!(check(&nested(128)), Ok(false));
    assert_eq!(check(&nested(129)), Err(JsonError::TooDeep(128)));
    assert_eq!(check(&"[".repeat(200_000)), Err(JsonError::TooDeep(128)));
}

#[test]
fn reads_members() {
    let mut seen = Vec::new();
    members(r#" {"a": {"b":[1, 2]} ,"c":"\"" } "#, |name, value, spaced| seen.push((name, value, spaced)))
        .unwrap();
    assert_eq!(seen, [("a", r#"{"b":[1, 2]}"#, true), ("c", r#""\"""#, false)]);
    assert!(members("[]", |_, _, _| ()).is_err());
    assert!(members("{} x", |_, _, _| ()).is_err());
    assert!(members(r#"{"a":1]"#, |_, _, _| ()).is_err());
}
