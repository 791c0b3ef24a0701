//! The list of proxies as text: `host:port [weight] [drain]` a line, `#` begins a comment. Pure.

use crate::net::link::Peer;

/// The weight of a line without one, in hundredths.
pub(super) const USUAL: u32 = 100;
/// The largest weight.
const MOST: f64 = 1_000.0;
/// The longest list.
const MOST_PROXIES: usize = 10_000;

/// One line of the list: a proxy, or a name for several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listed {
    pub(super) peer: Peer,
    pub(super) weight: u32,
    /// It gets no new requests.
    pub(super) drained: bool,
}

/// Parses a list. One bad line makes all of it bad: half a list is worse than the one before. The error names the line.
pub(super) fn parse(text: &str) -> Result<Vec<Listed>, String> {
    let mut list: Vec<Listed> = Vec::new();
    // Some editors begin a text with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate() {
        let words = line.split('#').next().unwrap_or_default();
        if words.trim().is_empty() {
            continue;
        }
        let listed = listed(words).ok_or_else(|| {
            let (number, line) = (number + 1, line.chars().take(80).collect::<String>());
            format!("line {number}: a line is host:port, a weight from 0.01 to 1000 and the word drain, if any: {line:?}")
        })?;
        if list.len() >= MOST_PROXIES {
            return Err(format!("it names more than {MOST_PROXIES} proxies"));
        }
        if list.iter().all(|other| other.peer != listed.peer) {
            list.push(listed);
        }
    }
    match list.iter().all(|listed| listed.drained) {
        _ if list.is_empty() => Err("it names no proxy".to_owned()),
        true => Err("it drains every proxy".to_owned()),
        false => Ok(list),
    }
}

fn listed(words: &str) -> Option<Listed> {
    let mut words = words.split_whitespace();
    let peer = words.next()?.parse().ok()?;
    let rest: Vec<&str> = words.collect();
    let (weight, drained) = match rest[..] {
        [] => ("1", false),
        ["drain"] => ("1", true),
        [weight] => (weight, false),
        [weight, "drain"] => (weight, true),
        _ => return None,
    };
    let weight: f64 = weight.parse().ok()?;
    let is_sound = (0.01..=MOST).contains(&weight);
    is_sound.then(|| Listed { peer, weight: (weight * f64::from(USUAL)).round() as u32, drained })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let list = parse("\u{feff}# ours\n a:1\n\nb:2 2.5 # the big one\n[::1]:3\t0.5\na:1 7\n").unwrap();
        let names: Vec<(String, u32)> = list.iter().map(|l| (l.peer.to_string(), l.weight)).collect();
        let expected =
            [("a:1", 100), ("b:2", 250), ("[::1]:3", 50)].map(|(name, weight)| (name.to_owned(), weight));
        assert_eq!(names, expected);
    }

    #[test]
    fn a_line_may_drain_its_proxy_but_not_all_of_them() {
        let list = parse("a:1 drain\nb:2 2 drain # for a disk\nc:3\n").unwrap();
        let drained: Vec<(u32, bool)> = list.iter().map(|listed| (listed.weight, listed.drained)).collect();
        assert_eq!(drained, [(100, true), (200, true), (100, false)]);
        for bad in ["a:1 drain 2", "a:1 drain drain", "a:1 drained"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("a:1 drain\n").is_err_and(|why| why.contains("every proxy")));
    }

    #[test]
    fn one_bad_line_makes_it_bad() {
        for bad in
            ["a", "a:0", "a:1 0", "a:1 -1", "a:1 x", "a:1 NaN", "a:1 1 1", "a b:1", "a:1,b:2", "a:1 1e9"]
        {
            let text = format!("good:1\n{bad}\n");
            assert!(parse(&text).is_err_and(|why| why.starts_with("line 2: ")), "{bad}");
        }
        assert!(parse("# nobody\n\n").is_err());
    }
}
