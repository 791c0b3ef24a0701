//! The URL of a document: a template in which the key is filled in. Pure.
//!
//! `{path}` is the whole key, `{resource}` its first segment, `{key}` the rest; without any, `/<resource>/<key>` is appended
//! to the path. All bytes but the unreserved ones (RFC 3986, section 2.3), the slashes and the escapes of the key are percent-encoded. The
//! parameters of the key come last.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::net::link::Peer;
use crate::wire::Key;

/// The longest URL of a document, in bytes: a key may be 512, each of which may become three.
const LONGEST: usize = 8192;

/// The URLs of an API's documents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    is_https: bool,
    peer: Peer,
    /// From the path on.
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Path,
    Resource,
    Key,
}

/// What is wrong with a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TemplateError {
    /// Neither `http://` nor `https://`.
    #[error("write a URL that begins with http:// or https://")]
    Scheme,
    /// No host, or a port that is none.
    #[error("write a host behind the scheme, such as http://api.example.com or http://127.0.0.1:8080")]
    Host,
    /// A user or a password.
    #[error(
        "a URL has no user and password here: --origin-header 'Authorization: Bearer @FILE' sends them from a file"
    )]
    UserInfo,
    /// Something behind `#`.
    #[error("a # and what follows it never reach a server: leave it out")]
    Fragment,
    /// A brace without its other one, or another name between them.
    #[error("between braces {{path}}, {{resource}} and {{key}} are known, and nothing else")]
    Brace,
    /// Only `{resource}`: all its documents would have one URL.
    #[error("a URL with {{resource}} needs {{key}} as well, or {{path}} in place of both")]
    OnlyResource,
    /// A space, a control character, or one beyond ASCII.
    #[error("a URL has printable ASCII alone: percent-encode other characters")]
    Character,
    /// More than a server takes.
    #[error("the URL is longer than 4096 bytes")]
    TooLong,
}

impl Template {
    /// Whether it is reached over TLS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host and the port.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The value of Host: without the port that goes without saying.
    pub(super) fn authority(&self) -> String {
        let peer = self.peer.to_string();
        match peer.strip_suffix(if self.is_https { ":443" } else { ":80" }) {
            Some(host) => host.to_owned(),
            None => peer,
        }
    }

    /// Path and query of a document.
    pub(super) fn target(&self, key: Key<'_>) -> String {
        let mut target = String::with_capacity(64);
        for part in &self.parts {
            match part {
                Part::Text(text) => target.push_str(text),
                Part::Path => encode(key.path(), &mut target),
                Part::Resource => encode(key.resource(), &mut target),
                Part::Key => encode(key.name(), &mut target),
            }
        }
        for (name, value) in key.query().into_iter().flat_map(parameters) {
            target.push(if target.contains('?') { '&' } else { '?' });
            encode(name, &mut target);
            target.push('=');
            encode(value, &mut target);
        }
        target
    }

    /// The target of a redirect (RFC 9110, section 10.2.2), as long as it stays at this scheme, host and port.
    pub(super) fn redirected(&self, from: &str, location: &str) -> Option<String> {
        let location = location.split('#').next().unwrap_or_default();
        let path_of_from = from.split('?').next().unwrap_or_default();
        let target = if let Some((authority, target)) = split_absolute(location, self.is_https) {
            let peer = peer(authority, self.is_https).ok()?;
            let is_here = peer.port == self.peer.port && peer.host.eq_ignore_ascii_case(&self.peer.host);
            match (is_here, target.as_bytes().first()) {
                (false, _) => return None,
                (true, Some(b'/')) => target.to_owned(),
                (true, _) => format!("/{target}"),
            }
        } else if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path_of_from}{location}")
        } else if location.is_empty() || location.split(['/', '?']).next().is_some_and(|it| it.contains(':'))
        {
            return None;
        } else {
            let folder = path_of_from.rfind('/').map_or("/", |at| &path_of_from[..=at]);
            format!("{folder}{location}")
        };
        (target.len() <= LONGEST && target.bytes().all(|byte| byte.is_ascii_graphic())).then_some(target)
    }
}

/// Authority and the rest of a URL of this scheme, or of one without a scheme.
fn split_absolute(location: &str, is_https: bool) -> Option<(&str, &str)> {
    let scheme = if is_https { "https:" } else { "http:" };
    let begins = location.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let rest = if begins { &location[scheme.len()..] } else { location };
    let rest = rest.strip_prefix("//")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

fn peer(authority: &str, is_https: bool) -> Result<Peer, TemplateError> {
    let has_port = authority.rfind(':').is_some_and(|at| !authority[at..].contains(']'));
    let port = if is_https { 443 } else { 80 };
    let peer = if has_port { authority.parse() } else { format!("{authority}:{port}").parse() };
    peer.map_err(|_| TemplateError::Host)
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

/// Percent-encodes each segment. What a key escapes is encoded already.
fn encode(path: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let (scheme, rest) = text.split_once("://").ok_or(TemplateError::Scheme)?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(TemplateError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        match () {
            () if authority.contains('@') => return Err(TemplateError::UserInfo),
            () if target.contains('#') => return Err(TemplateError::Fragment),
            () if !target.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err(TemplateError::Character);
            }
            () if text.len() > LONGEST / 2 => return Err(TemplateError::TooLong),
            () => {}
        }
        let peer = peer(authority, is_https)?;
        let parts = match target.contains(['{', '}']) {
            true => parts(target)?,
            false => appended(target),
        };
        let target =
            if target.starts_with('/') { parts } else { [vec![Part::Text("/".into())], parts].concat() };
        Ok(Self { is_https, peer, parts: target })
    }
}

/// A target with braces.
fn parts(target: &str) -> Result<Vec<Part>, TemplateError> {
    let (mut parts, mut rest) = (Vec::new(), target);
    while let Some(open) = rest.find(['{', '}']) {
        let (text, braced) = rest.split_at(open);
        let (name, behind) =
            braced.strip_prefix('{').and_then(|name| name.split_once('}')).ok_or(TemplateError::Brace)?;
        parts.push(Part::Text(text.to_owned()));
        parts.push(match name {
            "path" => Part::Path,
            "resource" => Part::Resource,
            "key" => Part::Key,
            _ => return Err(TemplateError::Brace),
        });
        rest = behind;
    }
    parts.push(Part::Text(rest.to_owned()));
    match parts.iter().any(|part| matches!(part, Part::Path | Part::Key)) {
        true => Ok(parts),
        false => Err(TemplateError::OnlyResource),
    }
}

/// A target without braces: the key comes behind its path.
fn appended(target: &str) -> Vec<Part> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let path = path.strip_suffix('/').unwrap_or(path);
    let slash = if path.is_empty() && !target.starts_with('/') { "" } else { "/" };
    vec![Part::Text(format!("{path}{slash}")), Part::Path, Part::Text(query.to_owned())]
}

impl fmt::Display for Template {
    /// Scheme, host and path; of a query, which may hold a secret, only that there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_https { "https" } else { "http" }, self.authority())?;
        for part in &self.parts {
            match part {
                Part::Path => f.write_str("{path}")?,
                Part::Resource => f.write_str("{resource}")?,
                Part::Key => f.write_str("{key}")?,
                Part::Text(text) => match text.split_once('?') {
                    Some((path, _)) => return write!(f, "{path}?…"),
                    None => f.write_str(text)?,
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_key_is_filled_in_or_appended() {
        let key = Key::parse("shop/eu/shoe:42+red").unwrap();
        for (text, authority, target) in [
            ("http://a", "a", "/shop/eu/shoe%3A42%2Bred"),
            ("http://a/", "a", "/shop/eu/shoe%3A42%2Bred"),
            ("HTTP://a:80/v1", "a", "/v1/shop/eu/shoe%3A42%2Bred"),
            ("http://a:8080/v1/?x=1&y", "a:8080", "/v1/shop/eu/shoe%3A42%2Bred?x=1&y"),
            ("http://a?x=1", "a", "/shop/eu/shoe%3A42%2Bred?x=1"),
            ("http://a/v1/{path}.json", "a", "/v1/shop/eu/shoe%3A42%2Bred.json"),
            ("http://a/{resource}{key}.json", "a", "/shopeu/shoe%3A42%2Bred.json"),
            ("http://a/i?of={resource}&id={key}&x=%20", "a", "/i?of=shop&id=eu/shoe%3A42%2Bred&x=%20"),
            ("http://a?id={key}", "a", "/?id=eu/shoe%3A42%2Bred"),
            ("https://a:443/{key}", "a", "/eu/shoe%3A42%2Bred"),
            ("https://a:80/{key}", "a:80", "/eu/shoe%3A42%2Bred"),
            ("http://[::1]:8080/{key}", "[::1]:8080", "/eu/shoe%3A42%2Bred"),
            ("http://[::1]/{key}", "[::1]", "/eu/shoe%3A42%2Bred"),
        ] {
            let template = template(text);
            assert_eq!((&*template.authority(), &*template.target(key)), (authority, target), "{text}");
        }
        let escaped = Key::parse("shop/caf%C3%A9").unwrap();
        assert_eq!(template("http://a").target(escaped), "/shop/caf%C3%A9");
        let with_query = Key::parse("shop/1?fields=a,b&q=x%20y+z").unwrap();
        for (text, target) in [
            ("http://a", "/shop/1?fields=a%2Cb&q=x%20y%2Bz"),
            ("http://a/{key}.json?x=1", "/1.json?x=1&fields=a%2Cb&q=x%20y%2Bz"),
        ] {
            assert_eq!(template(text).target(with_query), target);
        }
    }

    #[test]
    fn a_bad_template_is_refused() {
        for (text, error) in [
            ("a/b", TemplateError::Scheme),
            ("ftp://a/", TemplateError::Scheme),
            ("http://", TemplateError::Host),
            ("http:///x", TemplateError::Host),
            ("http://a:x/", TemplateError::Host),
            ("http://a:0/", TemplateError::Host),
            ("http://a b/", TemplateError::Host),
            ("http://{path}/", TemplateError::Host),
            ("http://me:secret@a/", TemplateError::UserInfo),
            ("http://a/#x", TemplateError::Fragment),
            ("http://a/{id}", TemplateError::Brace),
            ("http://a/{path", TemplateError::Brace),
            ("http://a/path}", TemplateError::Brace),
            ("http://a/{{path}}", TemplateError::Brace),
            ("http://a/{}", TemplateError::Brace),
            ("http://a/{resource}", TemplateError::OnlyResource),
            ("http://a/b c", TemplateError::Character),
            ("http://a/é", TemplateError::Character),
        ] {
            assert_eq!(text.parse::<Template>(), Err(error), "{text}");
        }
        assert_eq!(format!("http://a/{}", "x".repeat(5000)).parse::<Template>(), Err(TemplateError::TooLong));
    }

    #[test]
    fn a_redirect_stays_at_its_host() {
        let (plain, secure) = (template("http://a:8080/v1"), template("https://b"));
        for (template, location, target) in [
            (&plain, "/x", Some("/x")),
            (&plain, "http://a:8080/x?y", Some("/x?y")),
            (&plain, "HTTP://A:8080/x#part", Some("/x")),
            (&plain, "//a:8080/x", Some("/x")),
            (&plain, "http://a:8080", Some("/")),
            (&plain, "http://a:8080?y", Some("/?y")),
            (&plain, "2?y", Some("/v1/2?y")),
            (&plain, "?y", Some("/v1/1?y")),
            (&plain, "http://a/x", None),
            (&plain, "https://a:8080/x", None),
            (&plain, "http://a:8080@evil/x", None),
            (&plain, "//evil/x", None),
            (&plain, "http://169.254.169.254/latest", None),
            (&plain, "javascript:x", None),
            (&plain, "/x y", None),
            (&plain, "", None),
            (&secure, "https://b:443/x", Some("/x")),
            (&secure, "http://b/x", None),
        ] {
            assert_eq!(template.redirected("/v1/1?z", location).as_deref(), target, "{location}");
        }
    }

    #[test]
    fn it_is_shown_without_its_query() {
        for (text, shown) in [
            ("http://a:80/v1", "http://a/v1/{path}"),
            ("https://a/{resource}/{key}?token=secret", "https://a/{resource}/{key}?…"),
        ] {
            assert_eq!(template(text).to_string(), shown);
        }
    }
}
