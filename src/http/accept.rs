//! Lists of what a client accepts, each item with a weight (RFC 9110, 12.4.2), in one header line or several.

use hyper::HeaderMap;
use hyper::header::HeaderName;

/// The items of a list in their order, without parameters and in lower case, and their weights from 0 to 1.
pub(super) fn weighted(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = (String, f32)> + '_ {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|item| {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        (name.trim().to_ascii_lowercase(), weight(parameters))
    })
}

/// The parameter `q`: 1 without one, 0 if it is none.
fn weight(parameters: &str) -> f32 {
    let q = |parameter: &'_ str| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().ok())
    };
    match parameters.split(';').find_map(q) {
        None => 1.0,
        Some(weight) => weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{ACCEPT, HeaderValue};

    use super::*;

    #[test]
    fn reads_weights_from_every_line() {
        let mut headers = HeaderMap::new();
        for line in ["text/plain; version=0.0.4 ;q=0.3, */*;Q=0", "A;q=x,b;q=2,c; q = 0.5", ""] {
            headers.append(ACCEPT, HeaderValue::from_static(line));
        }
        let all: Vec<(String, f32)> =
            weighted(&headers, ACCEPT).filter(|(name, _)| !name.is_empty()).collect();
        let all: Vec<(&str, f32)> = all.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
        assert_eq!(all, [("text/plain", 0.3), ("*/*", 0.0), ("a", 0.0), ("b", 0.0), ("c", 0.5)]);
    }
}
