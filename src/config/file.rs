//! A TOML file as a list of values with their lines. Their meaning is not known here.

use toml::de::{DeTable, DeValue};

use super::Problem;

/// One `name = value` within a `[table]`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) table: String,
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

/// The value of a setting, as text like that of a command line.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Value {
    One(String),
    Switch(bool),
    Many(Vec<String>),
}

/// One `[table]` and its line.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) line: usize,
}

/// The tables of a file and all their entries.
#[derive(PartialEq, Eq, Default, Debug)]
pub(super) struct Tables {
    pub(super) tables: Vec<Table>,
    pub(super) entries: Vec<Entry>,
}

/// Reads a file, and collects all of its errors.
pub(super) fn read(text: &str) -> Result<Tables, Vec<Problem>> {
    let line_at = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors
        .iter()
        .map(|error| Problem {
            line: line_at(error.span().map_or(0, |span| span.start)),
            text: error.message().replace('\n', "; "),
        })
        .collect();
    let mut found = Tables::default();
    for (name, value) in root.get_ref() {
        let line = line_at(name.span().start);
        let name = name.get_ref().to_string();
        let DeValue::Table(table) = value.get_ref() else {
            let text =
                format!("{name} stands in no table; put it beneath the role that it is for, such as [proxy]");
            problems.push(Problem { line, text });
            continue;
        };
        for (key, value) in table {
            let line = line_at(key.span().start);
            let read = match value.get_ref() {
                DeValue::Table(keyed) => by_key(keyed),
                value => scalar_or_list(value),
            };
            match read {
                Ok(value) => found.entries.push(Entry {
                    table: name.clone(),
                    name: key.get_ref().to_string(),
                    line,
                    value,
                }),
                Err(why) => {
                    problems.push(Problem { line, text: format!("[{name}] {}: {why}", key.get_ref()) });
                }
            }
        }
        found.tables.push(Table { name, line });
    }
    problems.sort_by_key(|problem| problem.line);
    // The parser sorts by name; errors are reported from the top of the file to its bottom.
    found.tables.sort_by_key(|table| table.line);
    found.entries.sort_by_key(|entry| entry.line);
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// A table of tables, such as `[proxy.prefix."flags/*"]`, as the texts of a flag that is given several times: `flags/*=ttl:2s`.
fn by_key(keyed: &DeTable<'_>) -> Result<Value, &'static str> {
    let mut texts = Vec::new();
    for (key, value) in keyed {
        let DeValue::Table(settings) = value.get_ref() else { return Err("a setting is no table") };
        let mut parts = Vec::new();
        for (name, value) in settings {
            parts.push(format!("{}:{}", name.get_ref(), scalar(value.get_ref())?));
        }
        texts.push(format!("{}={}", key.get_ref(), parts.join(",")));
    }
    Ok(Value::Many(texts))
}

fn scalar_or_list(value: &DeValue<'_>) -> Result<Value, &'static str> {
    match value {
        DeValue::Boolean(switch) => Ok(Value::Switch(*switch)),
        DeValue::Array(values) => {
            values.iter().map(|value| scalar(value.get_ref())).collect::<Result<_, _>>().map(Value::Many)
        }
        value => scalar(value).map(Value::One),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "the number is too large"),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(_) => Err("a list holds no true or false"),
        DeValue::Datetime(_) => Err("no setting is a date; write text in quotes"),
        DeValue::Array(_) => Err("a list holds no lists"),
        DeValue::Table(_) => Err("a setting is no table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Fuzz, outcome};

    #[test]
    fn a_file_survives_any_bytes() {
        let fuzz = Fuzz {
            samples: &[
                b"# a comment\n[lb]\nport = 0x10\nproxies = [\"a:1\",\n  \"b:2\"]\n\n[proxy]\nshare = true\nratio = 0.5\n",
                b"[proxy.prefix.\"flags/*\"]\nttl = \"2s\"\n",
                "\u{feff}[proxy]\r\nttl = '1s'\r\n".as_bytes(),
            ],
            words: &["[", "]", "[[", "]]", "=", "\"", "\"\"\"", "'", ".", "\n", "1979-05-27", "inf", "{", "}", "\\u", "#", "0b2"],
        };
        fuzz.run(|bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return outcome(0) };
            match read(text) {
                Ok(tables) => {
                    let lines = text.lines().count().max(1);
                    assert!(tables.entries.iter().all(|entry| (1..=lines).contains(&entry.line)), "{text:?}");
                    outcome(tables.entries.len())
                }
                Err(problems) => {
                    assert!(!problems.is_empty(), "it says why");
                    outcome(problems.len() + 1_000)
                }
            }
        });
    }

    #[test]
    fn reads_values_with_their_lines() {
        let text = "# a comment\n[lb]\nport = 0x10\nproxies = [\"a:1\",\n  \"b:2\"]\n\n[proxy]\nshare = true\nratio = 0.5\n";
        let tables = read(text).unwrap();
        let entry = |table: &str, name: &str, line, value| Entry {
            table: table.into(),
            name: name.into(),
            line,
            value,
        };
        assert_eq!(
            tables.entries,
            [
                entry("lb", "port", 3, Value::One("16".into())),
                entry("lb", "proxies", 4, Value::Many(vec!["a:1".into(), "b:2".into()])),
                entry("proxy", "share", 8, Value::Switch(true)),
                entry("proxy", "ratio", 9, Value::One("0.5".into())),
            ]
        );
        assert_eq!(
            tables.tables,
            [Table { name: "lb".into(), line: 2 }, Table { name: "proxy".into(), line: 7 }]
        );
    }

    #[test]
    fn a_table_of_tables_is_a_list_of_texts() {
        let text = "[proxy]\nttl = 5\n[proxy.prefix.\"flags/*\"]\nttl = \"2s\"\nnegative-ttl = 0\n[proxy.prefix.\"a/b/*\"]\nttl = 1\n";
        let entries = read(text).unwrap().entries;
        let prefix = entries.iter().find(|entry| entry.name == "prefix").unwrap();
        assert_eq!(prefix.line, 3);
        let texts = ["a/b/*=ttl:1", "flags/*=negative-ttl:0,ttl:2s"].map(str::to_owned);
        assert_eq!(prefix.value, Value::Many(texts.to_vec()));
        for wrong in ["[proxy.ttl]\na = 1\n", "[proxy.prefix.\"a/*\"]\nttl = [1]\n"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_errors_are_reported_with_their_lines() {
        let text = "port = 1\n[lb]\nport = 1\nport = 2\nx = [[1]]\ny = 2020-01-01\n";
        let lines: Vec<usize> = read(text).unwrap_err().iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 4, 5, 6]);
        assert!(read("[lb\n").is_err() && read("\u{0}").is_err());
        assert_eq!(read("").unwrap(), Tables::default());
    }
}
