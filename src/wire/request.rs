//! A request line: a verb in upper case, one space, and its argument. One parser for every node, plain and in sessions.

use std::time::Duration;

use thiserror::Error;

use super::changes::{self, Changed, Watch};
use super::key::{Key, KeyError, Pattern};
use super::tell::Tell;

/// The longest request line in bytes, its end included.
pub const MAX_LINE: usize = 8 * 1024;

/// The refusal of METRICS with an argument, where that is not a proxy of a balancer.
pub const METRICS_ALONE: &str = "METRICS stands alone";

/// A request, borrowed from its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// `GET <resource>/<key>`
    Get(Key<'a>),
    /// `METRICS`
    Metrics,
    /// `METRICS <host:port>`: all that a balancer knows of one proxy.
    MetricsOf(&'a str),
    /// `PURGE [soft ]<pattern>`
    Purge {
        /// The documents to remove.
        pattern: Pattern<'a>,
        /// Mark them stale instead: they are served until they were fetched anew.
        soft: bool,
    },
    /// `EXPLAIN <resource>/<key>`
    Explain(Key<'a>),
    /// `DRAIN [force ]<host:port>`
    Drain {
        /// The name of the node.
        node: &'a str,
        /// Even if no other node gets requests.
        force: bool,
    },
    /// `UNDRAIN <host:port>`
    Undrain(&'a str),
    /// `HELLO 2`: asks for a session.
    Hello,
    /// `WATCH <epoch|-> <seq>`, in sessions
    Watch(Watch),
    /// `CHANGED <pattern> ...`
    Changed(Changed<'a>),
}

/// The options of a request in a session. Unknown ones are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Options<'a> {
    /// `deadline=<ms>`: the time that the client still has.
    pub deadline: Option<Duration>,
    /// `trace=<id>`: the id of the request across nodes.
    pub trace: Option<&'a str>,
    /// `tell=times`, `meta=1` and `if=<etag>`.
    pub tell: Tell<'a>,
    /// `traceparent=<value>`: the client's span, in the form of W3C Trace Context. Not parsed yet.
    pub parent: Option<&'a str>,
}

/// The reason why a line is not a request. Its text is the `data` of the reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum RequestError<'a> {
    /// No verb at the start: BAD_REQUEST.
    #[error("a request is a verb in upper case, one space and a path, such as GET article/1")]
    Shape,
    /// A known verb with a wrong argument, or none: BAD_REQUEST.
    #[error("{0}")]
    Usage(&'static str),
    /// A path outside of the grammar: BAD_REQUEST.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// A well-formed line with a verb that no node has, cut to 32 bytes: WRONG_METHOD.
    #[error("this node has no {0}")]
    Unknown(&'a str),
}

impl<'a> Request<'a> {
    /// Reads a plain line, without its end.
    ///
    /// # Errors
    /// [`RequestError`], which decides between BAD_REQUEST and WRONG_METHOD.
    pub fn parse(line: &'a str) -> Result<Self, RequestError<'a>> {
        // First, because nearly all requests are GETs.
        if let Some(path) = line.strip_prefix("GET ") {
            return Ok(Request::Get(Key::parse(path)?));
        }
        let verb_end = line.find(|letter: char| !letter.is_ascii_uppercase()).unwrap_or(line.len());
        let (verb, rest) = line.split_at(verb_end);
        let argument = match rest.strip_prefix(' ') {
            None if rest.is_empty() => None,
            None | Some("") => return Err(RequestError::Shape),
            argument => argument,
        };
        match (verb, argument) {
            ("", _) => Err(RequestError::Shape),
            ("GET", _) => Err(RequestError::Usage("GET needs a path: GET <resource>/<key>")),
            ("METRICS", None) => Ok(Request::Metrics),
            ("METRICS", Some(node)) => match node_name(node) {
                Ok(node) => Ok(Request::MetricsOf(node)),
                Err(_) => Err(RequestError::Usage(METRICS_ALONE)),
            },
            ("PURGE", Some(argument)) => purge(argument),
            ("PURGE", None) => {
                Err(RequestError::Usage("PURGE needs a path: PURGE [soft] <resource>/<key or *>"))
            }
            ("EXPLAIN", Some(path)) => Ok(Request::Explain(Key::parse(path)?)),
            ("EXPLAIN", None) => Err(RequestError::Usage("EXPLAIN needs a path: EXPLAIN <resource>/<key>")),
            ("DRAIN", Some(argument)) => {
                let (node, force) =
                    argument.strip_prefix("force ").map_or((argument, false), |node| (node, true));
                Ok(Request::Drain { node: node_name(node)?, force })
            }
            ("UNDRAIN", Some(node)) => Ok(Request::Undrain(node_name(node)?)),
            ("DRAIN" | "UNDRAIN", None) => {
                Err(RequestError::Usage("DRAIN and UNDRAIN need a node: <host:port>"))
            }
            ("CHANGED", Some(words)) => Changed::parse(words).map(Request::Changed),
            ("CHANGED", None) => Err(changes::CHANGED),
            ("WATCH", _) => Err(changes::WATCH),
            ("HELLO", Some("2")) => Ok(Request::Hello),
            ("HELLO", _) => Err(RequestError::Usage("a session is asked for with HELLO 2")),
            (verb, argument) => {
                if let Some(path) = argument {
                    Pattern::parse(path)?;
                }
                Err(RequestError::Unknown(&verb[..verb.len().min(32)]))
            }
        }
    }

    /// Appends the request as a line without its end. Only parsed requests are written, so nothing unchecked reaches another
    /// node.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (verb, argument) = match self {
            Request::Get(key) => ("GET ", key.as_str()),
            Request::Metrics => ("METRICS", ""),
            Request::MetricsOf(node) => ("METRICS ", *node),
            Request::Purge { pattern, soft } => {
                out.extend_from_slice(if *soft { b"PURGE soft " } else { b"PURGE " });
                match pattern {
                    Pattern::One(key) => (key.as_str(), ""),
                    Pattern::Beneath(prefix) => (*prefix, "*"),
                    Pattern::Tagged(tag) => (*tag, ""),
                }
            }
            Request::Explain(key) => ("EXPLAIN ", key.as_str()),
            Request::Drain { node, force: false } => ("DRAIN ", *node),
            Request::Drain { node, force: true } => ("DRAIN force ", *node),
            Request::Undrain(node) => ("UNDRAIN ", *node),
            Request::Hello => ("HELLO 2", ""),
            Request::Watch(watch) => return watch.write(out),
            Request::Changed(changed) => {
                return out.extend_from_slice(format!("CHANGED {changed}").as_bytes());
            }
        };
        out.extend_from_slice(verb.as_bytes());
        out.extend_from_slice(argument.as_bytes());
    }

    /// Reads a line of a session, without its id and its end: a request, and options behind its argument.
    ///
    /// # Errors
    /// As [`Request::parse`], and `Usage` for a word that is not `name=value`, or a deadline that is not a number.
    pub fn parse_with_options(line: &'a str) -> Result<(Self, Options<'a>), RequestError<'a>> {
        if let Some(words) = line.strip_prefix("WATCH ") {
            return Watch::parse(words).map(|(watch, options)| (Request::Watch(watch), options));
        }
        // Keys may hold `=` as well, so options are known by their place: the words from the third on.
        let options_at = memchr::memchr(b'=', line.as_bytes()).and_then(|_| option_start(line));
        let Some(options_at) = options_at else { return Ok((Self::parse(line)?, Options::default())) };
        let request = Self::parse(&line[..options_at])?;
        Ok((request, Options::parse(&line[options_at + 1..])?))
    }
}

/// The offset of the space behind verb and argument.
fn option_start(line: &str) -> Option<usize> {
    if line.starts_with("CHANGED ") {
        return Changed::option_start(line);
    }
    let line = line.as_bytes();
    let mut at = memchr::memchr(b' ', line)? + 1;
    // `PURGE soft x` and `DRAIN force x` have one word more before their options.
    for word in [&b"soft "[..], b"force "] {
        if line[at..].starts_with(word) {
            at += word.len();
            break;
        }
    }
    memchr::memchr(b' ', &line[at..]).map(|space| at + space)
}

impl<'a> Options<'a> {
    pub(super) fn parse(words: &'a str) -> Result<Self, RequestError<'a>> {
        const SHAPE: RequestError<'static> = RequestError::Usage(
            "after the path of a request in a session come options: name=value, parted by one space",
        );
        let mut options = Options::default();
        for word in words.split(' ') {
            if word.chars().any(char::is_control) {
                return Err(SHAPE);
            }
            match word.split_once('=').ok_or(SHAPE)? {
                ("", _) => return Err(SHAPE),
                ("deadline", value) => {
                    let ms = value
                        .parse()
                        .map_err(|_| RequestError::Usage("deadline= takes whole milliseconds"))?;
                    options.deadline = Some(Duration::from_millis(ms));
                }
                ("tell", value) => options.tell.times = value == "times",
                ("meta", value) => options.tell.meta = value == "1",
                ("if", value) => options.tell.held = Some(value),
                ("trace", value) => options.trace = Some(value),
                ("traceparent", value) => options.parent = Some(value),
                _ => {}
            }
        }
        Ok(options)
    }
}

fn purge(argument: &str) -> Result<Request<'_>, RequestError<'_>> {
    let (soft, pattern) = match argument.strip_prefix("soft ") {
        Some(pattern) => (true, pattern),
        None => (false, argument),
    };
    Ok(Request::Purge { pattern: Pattern::parse(pattern)?, soft })
}

/// A `host:port` of the balancer's list. Only its alphabet is checked: the name is looked up in the list, never dialled.
fn node_name(name: &str) -> Result<&str, RequestError<'_>> {
    const WRONG: RequestError<'static> = RequestError::Usage("a node is named <host:port>");
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(byte);
    match name.len() <= 260 && name.contains(':') && name.as_bytes().iter().all(allowed) {
        true => Ok(name),
        false => Err(WRONG),
    }
}

/// Splits a line of a session into its id and the request behind the space. `None` when it does not begin with a decimal
/// `u64` and a space.
pub fn split_id(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut id: u64 = 0;
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            b'0'..=b'9' => id = id.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b' ' if at > 0 => return Some((id, &line[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Request<'_> {
        Request::Get(Key::parse(path).unwrap())
    }

    #[test]
    fn reads_every_verb() {
        assert_eq!(Request::parse("GET article/1"), Ok(get("article/1")));
        assert_eq!(Request::parse("METRICS"), Ok(Request::Metrics));
        assert_eq!(Request::parse("METRICS [::1]:8001"), Ok(Request::MetricsOf("[::1]:8001")));
        assert_eq!(Request::parse("HELLO 2"), Ok(Request::Hello));
        assert_eq!(
            Request::parse("DRAIN 127.0.0.1:8001"),
            Ok(Request::Drain { node: "127.0.0.1:8001", force: false })
        );
        assert_eq!(
            Request::parse("PURGE soft a/*"),
            Ok(Request::Purge { pattern: Pattern::Beneath("a/"), soft: true })
        );
        assert!(matches!(Request::parse("PURGE soft/a"), Ok(Request::Purge { soft: false, .. })));
    }

    #[test]
    fn writes_what_it_reads() {
        for line in [
            "GET a/b",
            "METRICS",
            "PURGE a/b",
            "PURGE soft a/b",
            "PURGE a/b/*",
            "PURGE soft a/*",
            "EXPLAIN a/b",
            "DRAIN h:1",
            "DRAIN force h:1",
            "UNDRAIN [::1]:80",
            "HELLO 2",
            "CHANGED a/b c/* wait=all",
        ] {
            let mut written = Vec::new();
            Request::parse(line).unwrap().write(&mut written);
            assert_eq!(written, line.as_bytes());
        }
    }

    #[test]
    fn tells_bad_from_unknown() {
        for line in ["PUT article/1", "DELETE a/b", "QUIT", "PUT a/*"] {
            assert!(matches!(Request::parse(line), Err(RequestError::Unknown(_))), "{line}");
        }
        for line in [
            "",
            " ",
            "GET",
            "GET ",
            "GET  a/b",
            "GET a/b ",
            " GET a/b",
            "get a/b",
            "Get a/b",
            "GET\ta/b",
            "GET a",
            "GET a/b c",
            "METRICS ",
            "METRICS x",
            "PUT",
            "PUT /",
            "PUT a/b {}",
            "GET / HTTP/1.1",
            "HELLO",
            "HELLO 3",
            "PURGE",
            "PURGE *",
            "PURGE soft",
            "EXPLAIN",
            "DRAIN",
            "DRAIN a/b",
            "*1\r",
            "GET a/b\r",
            "\u{feff}GET a/b",
        ] {
            match Request::parse(line) {
                Err(RequestError::Unknown("PUT")) if line == "PUT" => {}
                Err(RequestError::Unknown(verb)) => panic!("{line:?} is not {verb}"),
                Err(_) => {}
                Ok(request) => panic!("{line:?} is not {request:?}"),
            }
        }
    }

    #[test]
    fn reads_options_behind_the_path() {
        let (request, options) = Request::parse_with_options(
            "GET a/b=c deadline=250 color=blue tell=times trace=x-1 traceparent=00-a",
        )
        .unwrap();
        assert_eq!(request, get("a/b=c"));
        let deadline = Some(Duration::from_millis(250));
        let tell = Tell::times(true);
        assert_eq!(options, Options { deadline, trace: Some("x-1"), tell, parent: Some("00-a") });
        assert_eq!(Request::parse_with_options("GET a/b=c").unwrap().1, Options::default());
        for bad in ["GET a/b  deadline=1", "GET a/b deadline=x", "GET a/b x=1 ", "GET a/b =1", "GET a/b c"] {
            assert!(Request::parse_with_options(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_the_id() {
        assert_eq!(split_id(b"7 GET a/b"), Some((7, &b"GET a/b"[..])));
        assert_eq!(split_id(b"18446744073709551615 x"), Some((u64::MAX, &b"x"[..])));
        for bad in ["", "7", " GET a/b", "x GET", "-1 x", "+1 x", "18446744073709551616 x", "1\tx"] {
            assert_eq!(split_id(bad.as_bytes()), None, "{bad}");
        }
    }
}
