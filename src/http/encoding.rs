//! Content codings (RFC 9110, 8.4): their negotiation, and the compression itself.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;

use super::accept::weighted;

/// Shorter texts are not compressed: that would save less than a packet.
pub(super) const WORTH_IT: usize = 1024;
/// Longer texts are compressed in the pool, not on a core that serves.
pub(super) const LONG: usize = 32 * 1024;
/// Low levels: each response is compressed anew.
const GZIP_LEVEL: u32 = 4;
const ZSTD_LEVEL: i32 = 3;

/// A content coding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    pub(super) const ALL: [Encoding; 3] = [Encoding::Identity, Encoding::Gzip, Encoding::Zstd];

    /// The coding of the highest weight in `Accept-Encoding` (RFC 9110, 12.5.3); of equal weights the faster one.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let (mut gzip, mut zstd, mut any, mut identity) = (None, None, None, None);
        for (name, weight) in weighted(headers, ACCEPT_ENCODING) {
            match name.as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "zstd" => zstd = Some(weight),
                "identity" => identity = Some(weight),
                "*" => any = Some(weight),
                _ => {}
            }
        }
        let of = |weight: Option<f32>| weight.or(any).unwrap_or(0.0);
        let (gzip, zstd, identity) = (of(gzip), of(zstd), identity.unwrap_or(0.0));
        match () {
            () if zstd > 0.0 && zstd >= gzip && zstd >= identity => Encoding::Zstd,
            () if gzip > 0.0 && gzip >= identity => Encoding::Gzip,
            () => Encoding::Identity,
        }
    }

    /// The suffix of an entity tag, for different bytes need different strong tags.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Encoding::Identity => "",
            Encoding::Gzip => "-gzip",
            Encoding::Zstd => "-zstd",
        }
    }

    /// Its name in `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        self.suffix().trim_start_matches('-')
    }

    /// The coded text.
    pub(super) fn encode(self, text: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Encoding::Identity => Ok(text.to_vec()),
            Encoding::Gzip => {
                let out = Vec::with_capacity(text.len() / 2);
                let mut encoder = GzEncoder::new(out, Compression::new(GZIP_LEVEL));
                encoder.write_all(text)?;
                encoder.finish()
            }
            Encoding::Zstd => zstd::bulk::compress(text, ZSTD_LEVEL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn chooses_the_highest_weight() {
        for (accepted, expected) in [
            ("gzip", Encoding::Gzip),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("zstd;q=0.5, gzip", Encoding::Gzip),
            ("gzip;q=0, *;q=0.5", Encoding::Zstd),
            ("zstd; Q=0, gzip", Encoding::Gzip),
            ("zstd;q=0|gzip", Encoding::Gzip),
            ("GZIP;q=0.8, identity;q=0.9", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("br", Encoding::Identity),
            ("gzip;q=x", Encoding::Identity),
            ("", Encoding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            for line in accepted.split('|') {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
            }
            assert_eq!(Encoding::negotiate(&headers), expected, "{accepted}");
        }
        assert_eq!(Encoding::negotiate(&HeaderMap::new()), Encoding::Identity);
    }

    #[test]
    fn compressed_texts_decompress() {
        let text = b"{\"a\":\"bravo charlie delta echo\"}".repeat(100);
        let gzip = Encoding::Gzip.encode(&text).unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut back).unwrap();
        assert_eq!(back, text);
        let zstd = Encoding::Zstd.encode(&text).unwrap();
        assert_eq!(zstd::bulk::decompress(&zstd, text.len()).unwrap(), text);
        assert!(gzip.len() < text.len() / 4 && zstd.len() < text.len() / 4);
    }
}
