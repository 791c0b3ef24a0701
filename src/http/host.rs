//! The name of this node in a request (Host). A foreign page whose name is bound anew to 127.0.0.1 (DNS rebinding) could read
//! the documents of a loopback listener through the browser of this machine's user: it has another name, and gets 421.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Version;
use hyper::header::HOST;
use hyper::http::request::Parts;

/// Exactly one `Host`, and a valid one (RFC 9112, 3.2), so that proxies between the client and us route the request as we do.
pub(super) fn check(head: &Parts) -> Result<(), &'static str> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.as_bytes().iter().all(is_of_host) => Ok(()),
        (Some(_), None) => Err("the Host header is no host (RFC 3986, 3.2.2)"),
        (None, _) if head.version != Version::HTTP_11 => Ok(()),
        _ => Err("HTTP/1.1 takes exactly one Host header"),
    }
}

/// Whether the byte may stand in a host with a port (RFC 3986, 3.2.2 and 3.2.3).
fn is_of_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte)
}

/// Whether the request's host is an address, `localhost`, one of `names`, or a name without a dot, which no stranger can
/// have. A request without a host is of no browser.
pub(super) fn is_known(head: &Parts, names: &[String]) -> bool {
    // A target with a host of its own beats the header (RFC 9112, 3.2.2; RFC 9113, 8.3.1).
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => match head.headers.get(HOST).map(|host| host.to_str()) {
            Some(Err(_)) => return false,
            host => host.and_then(Result::ok),
        },
    };
    host.is_none_or(|host| is_known_name(host, names))
}

fn is_known_name(host: &str, names: &[String]) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split(':').next().unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_beneath_localhost =
        || name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
    !name.contains('.')
        || name.parse::<IpAddr>().is_ok()
        || is_beneath_localhost()
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_are_not_known() {
        let names = ["cache.example".to_owned()];
        for known in [
            "127.0.0.1:9080",
            "localhost",
            "LOCALHOST.:80",
            "[::1]:9080",
            "10.0.0.1",
            "app.localhost",
            "nodes",
            "Cache.Example:80",
        ] {
            assert!(is_known_name(known, &names), "{known}");
        }
        for stranger in
            ["evil.example", "evil.example:9080", "127.0.0.1.evil.example", "[evil.example]", "1.2.3"]
        {
            assert!(!is_known_name(stranger, &names), "{stranger}");
        }
    }
}
