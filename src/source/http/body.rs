//! The body of a response: read up to a bound, and decoded up to the same bound, so that neither an endless body nor one
//! that unpacks to gigabytes takes memory.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_ENCODING;

/// The coding of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// The largest window of zstd, as a power of two: 8 MiB, which is all that a server may use (RFC 9659).
const WINDOW: u32 = 23;

/// Why there is no body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyError {
    /// More bytes than the bound, before or after decoding.
    TooLarge,
    /// The connection ended within it, or its framing is wrong.
    Cut,
    /// It is not what its coding says.
    NotDecoded,
}

impl Coding {
    /// That of a response; `None` for one that was not asked for.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let value = values.next().map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase());
        match (value.as_deref(), values.next()) {
            (_, Some(_)) => None,
            (None | Some(b"" | b"identity"), None) => Some(Coding::Identity),
            (Some(b"gzip" | b"x-gzip"), None) => Some(Coding::Gzip),
            (Some(b"zstd"), None) => Some(Coding::Zstd),
            (Some(_), None) => None,
        }
    }
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(mut body: Incoming, limit: usize) -> Result<Vec<u8>, BodyError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(body.size_hint().lower() as usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Cut)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Unpacks a body of at most `limit` bytes: gzip (RFC 1952) or zstd (RFC 8878).
pub(super) fn unpack(packed: &[u8], coding: Coding, limit: usize) -> Result<Vec<u8>, BodyError> {
    let not_decoded = |_| BodyError::NotDecoded;
    match coding {
        Coding::Identity => bounded(packed, limit),
        Coding::Gzip => bounded(MultiGzDecoder::new(packed), limit),
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(not_decoded)?;
            decoder.window_log_max(WINDOW).map_err(not_decoded)?;
            bounded(decoder, limit)
        }
    }
}

fn bounded(source: impl Read, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    // One byte more tells a body of the limit from a larger one.
    match source.take(limit as u64 + 1).read_to_end(&mut bytes) {
        Err(_) => Err(BodyError::NotDecoded),
        Ok(length) if length > limit => Err(BodyError::TooLarge),
        Ok(_) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    type Pack = fn(&[u8]) -> Vec<u8>;
    const PACKED: [(Coding, Pack); 2] =
        [(Coding::Gzip, gzip), (Coding::Zstd, |bytes| zstd::encode_all(bytes, 1).unwrap())];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_ends_at_the_bound() {
        for (coding, pack) in PACKED {
            let bomb = pack(&vec![b'1'; 16 << 20]);
            assert!(bomb.len() < 100_000);
            assert_eq!(unpack(&bomb, coding, 1 << 20), Err(BodyError::TooLarge));
            assert_eq!(unpack(&pack(b"[1]"), coding, 3), Ok(b"[1]".to_vec()));
            assert_eq!(unpack(&pack(b"[1]"), coding, 2), Err(BodyError::TooLarge));
        }
    }

    #[test]
    fn what_is_not_packed_so_is_refused() {
        for (coding, pack) in PACKED {
            let whole = pack(b"{\"a\":1}");
            for bad in [&b"[1]"[..], &whole[..whole.len() - 1], &whole[..12]] {
                assert_eq!(unpack(bad, coding, 100), Err(BodyError::NotDecoded), "{coding:?}");
            }
        }
        // No frame of zstd at all is nothing, and no document.
        assert_eq!(unpack(b"", Coding::Gzip, 100), Err(BodyError::NotDecoded));
    }

    #[test]
    fn a_window_above_what_servers_may_use_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW + 1).unwrap();
        encoder.write_all(&vec![b'1'; 17 << 20]).unwrap();
        assert_eq!(unpack(&encoder.finish().unwrap(), Coding::Zstd, 32 << 20), Err(BodyError::NotDecoded));
    }

    #[test]
    fn codings_are_those_that_were_asked_for() {
        for (value, coding) in [
            ("", Some(Coding::Identity)),
            ("Identity", Some(Coding::Identity)),
            ("gzip", Some(Coding::Gzip)),
            ("X-GZIP", Some(Coding::Gzip)),
            ("zstd", Some(Coding::Zstd)),
            ("br", None),
            ("gzip, gzip", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, value.parse().unwrap());
            assert_eq!(Coding::of(&headers), coding, "{value}");
        }
        assert_eq!(Coding::of(&HeaderMap::new()), Some(Coding::Identity));
    }
}
