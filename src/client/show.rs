//! The form of a printed reply. Only white space changes: numbers and strings stay as the node wrote them.

use std::fmt::Write;
use std::time::Duration;

use crate::wire::json;

/// The reply on one line, with `latency_ms` added as the last member.
pub(super) fn with_latency(reply: &str, took: Duration) -> String {
    let tight = json::strip(reply);
    let members = tight.strip_suffix('}').unwrap_or(&tight);
    format!("{members},\"latency_ms\":{:.3}}}", took.as_secs_f64() * 1e3)
}

/// Puts each member and element of a JSON text on a line of its own. `tight` must have no insignificant white space.
pub(super) fn indented(tight: &str) -> String {
    let mut out = String::with_capacity(tight.len() * 2);
    let mut depth = 0_usize;
    let mut quoted = false;
    let mut escaped = false;
    let mut previous = ' ';
    let line = |out: &mut String, depth: usize| {
        let _ = write!(out, "\n{:1$}", "", depth * 2);
    };
    for c in tight.chars() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            let is_empty = matches!((previous, c), ('{', '}') | ('[', ']'));
            match c {
                '}' | ']' => {
                    depth = depth.saturating_sub(1);
                    if !is_empty {
                        line(&mut out, depth);
                    }
                }
                _ if matches!(previous, '{' | '[') => line(&mut out, depth),
                _ => {}
            }
            out.push(c);
            match c {
                '{' | '[' => depth += 1,
                ',' => line(&mut out, depth),
                ':' => out.push(' '),
                '"' => quoted = true,
                _ => {}
            }
        }
        previous = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_the_latency() {
        let shown = with_latency(r#"{"status": "OK", "data": 1.10}"#, Duration::from_micros(1500));
        assert_eq!(shown, r#"{"status":"OK","data":1.10,"latency_ms":1.500}"#);
    }

    #[test]
    fn indents_and_changes_nothing_else() {
        let tight = r#"{"a":[1.10,{}],"b\"{":"x,[\\","c":[],"d":{"e":null}}"#;
        let shown = indented(tight);
        let expected = "{\n  \"a\": [\n    1.10,\n    {}\n  ],\n  \"b\\\"{\": \"x,[\\\\\",\n  \"c\": [],\n  \"d\": {\n    \"e\": null\n  }\n}";
        assert_eq!(shown, expected);
        assert_eq!(json::strip(&shown), tight);
    }
}
