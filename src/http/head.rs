//! The limits of a request's head. The parser of HTTP/1 keeps them by itself; that of HTTP/2 refuses without a body, and so
//! takes more, and the service refuses.

use hyper::http::request::Parts;

/// The limit of bytes of a head.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// The limit of header lines of a head.
pub(super) const MAX_HEADERS: usize = 64;
/// The limit of bytes that the parser of HTTP/2 takes.
pub(super) const MAX_PARSED: u32 = 64 * 1024;
/// What is wrong with a head beyond these limits.
pub(super) const TOO_LARGE: &str = "the head is longer than 16 KiB, or has more than 64 header lines";

/// Whether the head is beyond the limits, in bytes as HTTP/1 would write it.
pub(super) fn is_too_large(head: &Parts) -> bool {
    let line = |name: &str, value: &[u8]| name.len() + ": \r\n".len() + value.len();
    let lines: usize = head.headers.iter().map(|(name, value)| line(name.as_str(), value.as_bytes())).sum();
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    target + lines > MAX_HEAD || head.headers.len() > MAX_HEADERS
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[test]
    fn a_head_has_a_limit_of_bytes_and_one_of_lines() {
        let head = |target: &str, value: &str, lines: usize| {
            let request = Request::builder().uri(target);
            let request = (0..lines).fold(request, |request, _| request.header("x", value));
            request.body(()).unwrap().into_parts().0
        };
        let long = "a".repeat(MAX_HEAD);
        assert!(!is_too_large(&head("/article/1", &long[100..], 1)) && !is_too_large(&head("/a/1", "", 64)));
        assert!(is_too_large(&head("/article/1", &long, 1)) && is_too_large(&head("/a/1", "", 65)));
        assert!(is_too_large(&head(&format!("/{long}"), "", 0)));
    }
}
