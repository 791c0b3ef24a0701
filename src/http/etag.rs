//! Strong entity tags (RFC 9110, 8.8.3): a hash of a document's text, the same at every node.

use hyper::HeaderMap;
use hyper::header::IF_NONE_MATCH;
use xxhash_rust::xxh3::xxh3_128;

use super::encoding::Encoding;

/// A tag in hexadecimal digits, without quotes and without the suffix of the coding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ETag([u8; 32]);

impl ETag {
    pub(super) fn of(text: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let hash = xxh3_128(text);
        Self(std::array::from_fn(|i| DIGITS[(hash >> (124 - 4 * i) & 0xf) as usize]))
    }

    /// The value of the header `ETag`.
    pub(super) fn header(&self, encoding: Encoding) -> Vec<u8> {
        let suffix = encoding.suffix().as_bytes();
        let mut header = Vec::with_capacity(34 + suffix.len());
        header.push(b'"');
        header.extend_from_slice(&self.0);
        header.extend_from_slice(suffix);
        header.push(b'"');
        header
    }

    /// Whether `If-None-Match` has this tag, in any coding: the client has the document already.
    pub(super) fn is_known_to(&self, headers: &HeaderMap) -> bool {
        headers.get_all(IF_NONE_MATCH).iter().any(|header| {
            header.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
                let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
                let inner = tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\""));
                tag == b"*" || inner.is_some_and(|inner| self.is(inner))
            })
        })
    }

    fn is(&self, inner: &[u8]) -> bool {
        let suffix = inner.strip_prefix(&self.0[..]);
        suffix.is_some_and(|suffix| Encoding::ALL.iter().any(|coding| coding.suffix().as_bytes() == suffix))
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_tag_matches_itself_in_every_coding() {
        let tag = ETag::of(b"{}");
        assert_ne!(tag, ETag::of(b"[]"));
        let text = String::from_utf8(tag.header(Encoding::Identity)).unwrap();
        assert_eq!(text.len(), 34);
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            tag.is_known_to(&headers)
        };
        let gzipped = String::from_utf8(tag.header(Encoding::Gzip)).unwrap();
        for value in [text.as_str(), "*", &format!("W/{text}"), &format!("\"x\" ,{text}"), &gzipped] {
            assert!(known(value), "{value}");
        }
        for value in ["\"x\"", "", "x", &text[1..], &text.replace('"', "")] {
            assert!(!known(value), "{value}");
        }
    }
}
