//! The head of an HTTP/1.1 response, and where its body ends (RFC 9112, sections 4, 6 and 7.1). Pure.

use memchr::memmem::find;

use super::measurements::Failed;

/// The longest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// What counts of a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// The status code.
    pub(super) code: u16,
    /// Its bytes, with the empty line.
    pub(super) length: usize,
    pub(super) body: Body,
    /// The server does not close behind the response.
    pub(super) keeps_alive: bool,
    /// Whether the document came from a cache, by `Cache-Status` (RFC 9211).
    pub(super) hit: Option<bool>,
}

/// How the body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    /// It has this number of bytes.
    Length(usize),
    /// With an empty chunk.
    Chunked,
}

impl Head {
    /// The head at the beginning of these bytes; `None` if it goes on behind them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Failed> {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            return if bytes.len() > MAX_HEAD { Err(Failed::Bad) } else { Ok(None) };
        };
        let text = std::str::from_utf8(&bytes[..end]).map_err(|_| Failed::Bad)?;
        let mut lines = text.split("\r\n");
        let code = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
        let mut head = Head {
            code: code.ok_or(Failed::Bad)?,
            length: end + 4,
            body: Body::Length(0),
            // Before 1.1 the server closes unless it says otherwise.
            keeps_alive: text.starts_with("HTTP/1.1"),
            hit: None,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            head.note(name, value.trim())?;
        }
        Ok(Some(head))
    }

    fn note(&mut self, name: &str, value: &str) -> Result<(), Failed> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-length") {
            self.body = Body::Length(value.parse().map_err(|_| Failed::Bad)?);
        } else if is("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            self.body = Body::Chunked;
        } else if is("connection") {
            self.keeps_alive &= !value.eq_ignore_ascii_case("close");
        } else if is("cache-status") {
            self.hit = Some(value.split(';').any(|part| part.trim() == "hit"));
        }
        Ok(())
    }

    /// The length of a response whose body is chunked; `None` if it goes on behind these bytes.
    pub(super) fn end_of_chunks(&self, bytes: &[u8]) -> Result<Option<usize>, Failed> {
        let mut at = self.length;
        loop {
            let Some(line) = find(&bytes[at.min(bytes.len())..], b"\r\n") else { return Ok(None) };
            let size = std::str::from_utf8(&bytes[at..at + line]).map_err(|_| Failed::Bad)?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| Failed::Bad)?;
            if size == 0 {
                // Behind the last chunk come trailers, if any, and an empty line.
                let end = find(&bytes[at + line..], b"\r\n\r\n");
                return Ok(end.map(|end| at + line + end + 4));
            }
            at = at.saturating_add(line + 2).saturating_add(size).saturating_add(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        Head::parse(text.as_bytes()).expect("a head").expect("a whole one")
    }

    #[test]
    fn tells_code_length_and_what_a_cache_says() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nCache-Status: dproxy-8001; hit; ttl=3\r\n\r\n{";
        let told = head(text);
        assert_eq!((told.code, told.length, told.body), (200, text.len() - 1, Body::Length(12)));
        assert_eq!((told.keeps_alive, told.hit), (true, Some(true)));
        let told =
            head("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncache-status: a; fwd=uri-miss\r\n\r\n");
        assert_eq!((told.code, told.keeps_alive, told.hit), (404, false, Some(false)));
        assert_eq!(
            (head("HTTP/1.1 204 No Content\r\n\r\n").hit, Head::parse(b"HTTP/1.1 200 OK\r\n")),
            (None, Ok(None))
        );
        for bad in [
            "{\"status\":\"BAD_REQUEST\"}\r\n\r\n",
            "HTTP/1.1 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        ] {
            assert_eq!(Head::parse(bad.as_bytes()), Err(Failed::Bad), "{bad}");
        }
        assert_eq!(Head::parse(&[b'x'; MAX_HEAD + 1]), Err(Failed::Bad), "a head without an end");
    }

    #[test]
    fn finds_the_end_of_chunks_wherever_the_bytes_are_cut() {
        let start = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let text = format!("{start}4;x=1\r\nab\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n");
        let head = head(&text);
        assert_eq!(head.body, Body::Chunked);
        for cut in start.len()..text.len() {
            assert_eq!(head.end_of_chunks(&text.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(head.end_of_chunks(text.as_bytes()), Ok(Some(text.len())));
        assert_eq!(head.end_of_chunks(format!("{start}z\r\n").as_bytes()), Err(Failed::Bad));
    }
}
