//! The tags of a response, by which its document may be purged with others: `Surrogate-Key` (Fastly, Varnish's xkey), `Cache-Tag`
//! (Cloudflare, Akamai) and `Cache-Groups` (RFC 9875). Pure.

use hyper::HeaderMap;
use hyper::header::HeaderName;

use crate::wire::key::is_tag;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The most tags of a document; further ones are passed over.
const MOST: usize = 32;
/// The most bytes of them, with the spaces between.
const LONGEST: usize = 1024;

/// The different tags of a response, with a space between two.
pub(super) fn of(headers: &HeaderMap) -> String {
    let texts =
        |name| headers.get_all(name).into_iter().filter_map(|value| str::from_utf8(value.as_bytes()).ok());
    let keys = texts(SURROGATE_KEY).flat_map(str::split_ascii_whitespace);
    let tags = texts(CACHE_TAG).flat_map(|text| text.split(',')).map(str::trim);
    let groups = texts(CACHE_GROUPS).flat_map(strings);
    distinct(keys.chain(tags).chain(groups))
}

/// The different tags among words, with a space between two.
pub(in super::super) fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let (mut all, mut count) = (String::new(), 0);
    for tag in words.filter(|word| is_tag(word)) {
        let is_new = !all.split(' ').any(|known| known == tag);
        if is_new && count < MOST && all.len() + 1 + tag.len() <= LONGEST {
            all.extend([if count > 0 { " " } else { "" }, tag]);
            count += 1;
        }
    }
    all
}

/// The strings of a structured list (RFC 9651, section 3.3.3). One with an escape is no tag that can be written.
fn strings(list: &str) -> impl Iterator<Item = &str> {
    // Every second part is within quotes.
    list.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(headers: &[(&'static str, &str)]) -> String {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        of(&map)
    }

    #[test]
    fn the_tags_of_all_headers_are_known_once_each() {
        for (headers, expected) in [
            (&[][..], ""),
            (&[("surrogate-key", "a  b/1 a")], "a b/1"),
            (&[("cache-tag", "a, b,,c d ,e"), ("cache-tag", "f")], "a b e f"),
            (&[("cache-groups", "\"eu\", \"de\";q=1,\"two words\"")], "eu de"),
            (&[("surrogate-key", "a"), ("cache-tag", "b"), ("cache-groups", "\"a\"")], "a b"),
            (&[("surrogate-key", "é a\tb \"c\" d\\")], "a b"),
        ] {
            assert_eq!(tags(headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn they_are_bounded() {
        let many: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
        assert_eq!(tags(&[("surrogate-key", &many.join(" "))]).split(' ').count(), MOST);
        let long: Vec<String> = (0..20).map(|n| format!("{n:0>100}")).collect();
        assert_eq!(tags(&[("surrogate-key", &long.join(" "))]).len(), 10 * 101 - 1);
    }
}
