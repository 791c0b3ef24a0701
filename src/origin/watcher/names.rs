//! The names of the documents that a path beneath a data directory may have. Pure.

use super::super::store::Layout;
use super::tree::Changed;
use crate::wire::Pattern;
use crate::wire::escape::encoded;

/// The names of paths in a layout.
pub(super) struct Names<'a> {
    pub(super) layout: Layout,
    /// Whether a document of this resource may be held anywhere.
    pub(super) may_be_held: &'a dyn Fn(&str) -> bool,
}

impl Names<'_> {
    /// The documents of a file, or all of a directory: keys and prefixes. None for a path that no key leads to.
    pub(super) fn of(&self, path: &Changed) -> Vec<String> {
        let (path, end) = match path {
            Changed::File(path) => (path.strip_suffix(".json"), ""),
            Changed::Directory(path) => (Some(&**path), "/*"),
        };
        let Some(path) = path else { return Vec::new() };
        let name = |name: String| Pattern::parse(&name).is_ok().then_some(name);
        match self.layout {
            Layout::Nested => name(format!("{}{end}", encoded(path))).into_iter().collect(),
            // The resource ends somewhere within the first part.
            Layout::Flat => (1..path.find('/').unwrap_or(path.len()))
                .filter_map(|at| path.split_at_checked(at))
                .map(|(resource, rest)| (encoded(resource), encoded(rest)))
                .filter(|(resource, _)| (self.may_be_held)(resource))
                .filter_map(|(resource, rest)| name(format!("{resource}/{rest}{end}")))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layout: Layout, path: &Changed) -> Vec<String> {
        Names { layout, may_be_held: &|resource| ["article", "a"].contains(&resource) }.of(path)
    }

    fn file(layout: Layout, path: &str) -> Vec<String> {
        names(layout, &Changed::File(path.to_owned()))
    }

    fn directory(layout: Layout, path: &str) -> Vec<String> {
        names(layout, &Changed::Directory(path.to_owned()))
    }

    #[test]
    fn a_flat_file_has_a_name_for_each_resource_that_was_asked_for() {
        assert_eq!(file(Layout::Flat, "article1.json"), ["a/rticle1", "article/1"]);
        assert_eq!(file(Layout::Flat, "article1/x.json"), ["a/rticle1/x", "article/1/x"]);
        assert_eq!(directory(Layout::Flat, "article1"), ["a/rticle1/*", "article/1/*"]);
        assert_eq!(file(Layout::Flat, "article é.json"), ["a/rticle%20%C3%A9", "article/%20%C3%A9"]);
        for other in ["article.json.tmp", "article", "a.json", "price1.json", ".a.json"] {
            assert!(file(Layout::Flat, other).iter().all(|name| name == "a/rticle"), "{other}");
        }
    }

    #[test]
    fn a_nested_file_has_one_name() {
        assert_eq!(file(Layout::Nested, "article/1.json"), ["article/1"]);
        assert_eq!(file(Layout::Nested, "shop/eu/1.json"), ["shop/eu/1"]);
        assert_eq!(directory(Layout::Nested, "shop/eu"), ["shop/eu/*"]);
        assert_eq!(directory(Layout::Nested, "shop"), ["shop/*"]);
        assert_eq!(file(Layout::Nested, "shop/a b.json"), ["shop/a%20b"]);
        for other in ["1.json", "shop/.1.json", "shop/1", ".git/HEAD.json", "shop/a\tb.json"] {
            assert_eq!(file(Layout::Nested, other), [""; 0], "{other}");
        }
    }
}
