//! OpenMetrics text as Prometheus text 0.0.4, which every scraper and `promtool check metrics` read.
//!
//! The older form names a counter by its samples (`…_total`), and knows neither `# UNIT` nor `# EOF`.

/// Rewrites the lines that differ.
pub(super) fn to_prometheus(open_metrics: &str) -> String {
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut out = String::with_capacity(open_metrics.len() + 16 * counters.len());
    for line in open_metrics.lines() {
        let comment = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match comment.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) => {
                out.push_str(&line[..7]);
                out.push_str(name);
                out.push_str(if counters.contains(&name) { "_total " } else { " " });
                out.push_str(rest);
            }
            None if line.starts_with('#') => continue,
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_counters_by_their_samples() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{b=\"# HELP c\"} 1\n\
                    # HELP d_bytes Size.\n# TYPE d_bytes gauge\n# UNIT d_bytes bytes\nd_bytes 2\n# EOF\n";
        let older = "# HELP a_total Things.\n# TYPE a_total counter\na_total{b=\"# HELP c\"} 1\n\
                     # HELP d_bytes Size.\n# TYPE d_bytes gauge\nd_bytes 2\n";
        assert_eq!(to_prometheus(open), older);
    }
}
