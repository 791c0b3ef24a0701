//! METRICS and EXPLAIN for people: a name and a value a line, and a table of what there is several times. Pure.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The columns of a table, in their order: those that a row has. A path leads into an object.
const COLUMNS: &[(&str, &[&str])] = &[
    ("prefix", &["prefix"]),
    ("key", &["key"]),
    ("proxy", &["proxy"]),
    ("state", &["state"]),
    ("rule", &["rule"]),
    ("age s", &["age_seconds"]),
    ("left s", &["ttl_left_seconds"]),
    ("share", &["share"]),
    ("hit rate", &["hit_rate"]),
    ("in flight", &["in_flight"]),
    ("requests", &["requests"]),
    ("errors", &["errors"]),
    ("hits", &["metrics", "hits"]),
    ("stale", &["metrics", "stale_served"]),
    ("misses", &["metrics", "misses"]),
    ("entries", &["metrics", "entries"]),
    ("bytes", &["metrics", "bytes"]),
    ("evictions", &["metrics", "evictions"]),
    ("p99 ms", &["latency_ms", "p99"]),
    ("last error", &["last_error"]),
    ("error", &["error"]),
    ("why", &["why"]),
];

/// The `data` of a reply as text; `None` if that is no object.
pub(super) fn table(data: &Value) -> Option<String> {
    let members = data.as_object()?;
    let (tables, plain): (Vec<_>, Vec<_>) = members.iter().partition(|(_, value)| is_table(value));
    let width = plain.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in plain {
        // A write to a String cannot fail.
        let _ = writeln!(text, "{:width$}  {}", name.replace('_', " "), inline(value));
    }
    for (name, value) in tables {
        let rows = rows(name, value);
        if !rows.is_empty() {
            let _ = write!(text, "\n{}\n{}", name.replace('_', " "), drawn(&rows));
        }
    }
    Some(text)
}

fn is_table(value: &Value) -> bool {
    match value {
        Value::Array(rows) => rows.first().is_some_and(Value::is_object),
        Value::Object(rows) => !rows.is_empty() && rows.values().all(Value::is_object),
        _ => false,
    }
}

/// The rows of a table. Those of an object have their names in the column that its plural tells: `proxies` are of `proxy`.
fn rows(name: &str, value: &Value) -> Vec<Map<String, Value>> {
    match value {
        Value::Array(rows) => rows.iter().filter_map(|row| row.as_object().cloned()).collect(),
        Value::Object(rows) => {
            let column = if name == "proxies" { "proxy" } else { "key" };
            let named = |(name, row): (&String, &Value)| {
                let mut row = row.as_object().cloned().unwrap_or_default();
                row.insert(column.to_owned(), Value::from(name.as_str()));
                row
            };
            rows.iter().map(named).collect()
        }
        _ => Vec::new(),
    }
}

fn drawn(rows: &[Map<String, Value>]) -> String {
    let cell = |row: &Map<String, Value>, path: &[&str]| {
        let first = row.get(path[0])?;
        let value = path[1..].iter().try_fold(first, |value, member| value.get(member))?;
        (!value.is_null() && value.as_str() != Some("")).then(|| inline(value))
    };
    let columns: Vec<(&str, Vec<String>)> = COLUMNS
        .iter()
        .map(|(head, path)| (*head, rows.iter().map(|row| cell(row, path)).collect::<Vec<_>>()))
        .filter(|(_, cells)| cells.iter().any(Option::is_some))
        .map(|(head, cells)| (head, cells.into_iter().map(|cell| cell.unwrap_or("–".to_owned())).collect()))
        .collect();
    let length = |text: &str| text.chars().count();
    let mut text = String::new();
    for line in 0..=rows.len() {
        let mut row = String::new();
        for (head, cells) in &columns {
            let shown = if line == 0 { head } else { cells[line - 1].as_str() };
            let width = cells.iter().map(|cell| length(cell)).max().unwrap_or(0).max(length(head));
            let _ = write!(row, "  {shown:width$}");
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

/// A value within a line: numbers with three decimals at the most.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let rounded = format!("{:.3}", number.as_f64().unwrap_or_default());
            rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Value::Number(number) => number.to_string(),
        Value::Array(items) if items.is_empty() => "–".to_owned(),
        Value::Array(items) => items.iter().map(inline).collect::<Vec<_>>().join(", "),
        Value::Object(members) if members.is_empty() => "–".to_owned(),
        Value::Object(members) => {
            let named =
                members.iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), inline(value)));
            named.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metrics_are_lines_and_tables() {
        let data = json!({
            "failures": 0, "hit_rate": 0.66666, "node_name": null, "refused": {}, "push": {"state": "live", "seq": 3},
            "proxies": {
                "a:1": {"state": "healthy", "requests": 12, "why": "", "metrics": {"hits": 3, "entries": 2}},
                "b:2": {"state": "down", "requests": 0, "why": "refused", "metrics": null}
            },
            "hot_keys": [{"key": "article/1", "share": 0.5}], "prefixes": []
        });
        let told = table(&data).unwrap();
        for line in [
            "failures   0\n",
            "hit rate   0.667\n",
            "node name  –\n",
            "push       seq 3, state live\n",
            "refused    –\n",
            "\nproxies\n  proxy  state    requests  hits  entries  why\n  a:1    healthy  12        3     2        –\n  b:2    down     0         –     –        refused\n",
            "\nhot keys\n  key        share\n  article/1  0.5\n",
        ] {
            assert!(told.contains(line), "{line:?} in {told}");
        }
        assert_eq!(table(&json!("text")), None);
    }
}
