//! The key in the target of a request (RFC 9112, 3.2).

/// The path without the query and without its first slash; `/` for the root. Of a whole URL, as varnishncsa writes it, the
/// host does not count. `None` for what has no path.
pub(super) fn key(target: &str) -> Option<&str> {
    let after_host = match target.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find(['/', '?']).map_or("", |at| &rest[at..])
        }
        _ => target,
    };
    let is_bare = after_host.len() < target.len();
    let path = after_host.split(['?', '#']).next().unwrap_or_default();
    match path.strip_prefix('/') {
        Some("") => Some("/"),
        None if is_bare && path.is_empty() => Some("/"),
        key => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_path_alone() {
        for (target, expected) in [
            ("/article/1", Some("article/1")),
            ("/article/1?lang=en&x=/y", Some("article/1")),
            ("/a/%2C#top", Some("a/%2C")),
            ("/r?to=http://x/y", Some("r")),
            ("http://shop.example:8080/article/1?x", Some("article/1")),
            ("http://shop.example", Some("/")),
            ("https://shop.example?x", Some("/")),
            ("/", Some("/")),
            ("/?x", Some("/")),
            ("*", None),
            ("shop.example:443", None),
            ("", None),
        ] {
            assert_eq!(key(target), expected, "{target}");
        }
    }
}
