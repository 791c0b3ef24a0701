//! The name of this node in a request (Host). A foreign page whose name is bound anew to 127.0.0.1 (DNS rebinding) could read
//! the documents of a loopback listener through the browser of this machine's user: it has another name, and gets 421.

use std::net::{IpAddr, Ipv6Addr};

use hyper::Version;
use hyper::header::HOST;
use hyper::http::request::Parts;

/// Whether the request's host is an address, `localhost`, one of `names`, or a name without a dot, which no stranger can
/// have. A request without a host is of no browser.
pub(super) fn is_known(head: &Parts, names: &[String]) -> bool {
    let host = match head.version {
        Version::HTTP_2 => head.uri.authority().map(|authority| authority.as_str()),
        _ => match head.headers.get(HOST).map(|host| host.to_str()) {
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
