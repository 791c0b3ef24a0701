//! Requests to a bucket of S3 are signed by Signature Version 4, with the headers that every request has and no body: "Authenticating
//! Requests: Using the Authorization Header", Amazon S3 API Reference. Other stores that speak S3 take the same.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::reread::Reread;
use super::text;

const DATE: &str = "x-amz-date";
const BODY: &str = "x-amz-content-sha256";
const TOKEN: &str = "x-amz-security-token";
/// The hash of no bytes.
const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A bucket, where it takes more than its URL to read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Its region.
    pub region: String,
    /// Who reads it; `None` asks as anybody.
    pub credentials: Option<Credentials>,
}

/// Where the keys of a bucket's reader are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// These.
    Keys(Keys),
    /// In a section of a file as those of AWS' tools, read anew when it changes.
    File {
        /// The file.
        path: PathBuf,
        /// The section.
        profile: String,
    },
}

/// The keys of a bucket's reader. They are in no log.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// The name of the secret.
    pub id: String,
    /// The secret.
    pub secret: String,
    /// The token of a session, of keys that end.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => write!(f, "{}: …", keys.id),
            Self::File { path, profile } => write!(f, "[{profile}] of {path:?}"),
        }
    }
}

impl Credentials {
    /// The keys. Blocks.
    fn keys(&self) -> Result<Keys, String> {
        match self {
            Self::Keys(keys) => Ok(keys.clone()),
            Self::File { path, profile } => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("the credentials of {path:?} cannot be read: {error}"))?;
                section(&text, profile).ok_or_else(|| missing(path, profile))
            }
        }
    }
}

fn missing(path: &Path, profile: &str) -> String {
    format!("{path:?} has no aws_access_key_id and aws_secret_access_key in its section [{profile}]")
}

/// The keys in a section of a file of credentials.
fn section(text: &str, profile: &str) -> Option<Keys> {
    let mut keys = Keys::default();
    let mut is_inside = false;
    for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_inside = name.trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_inside) {
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => keys.id = value,
                "aws_secret_access_key" => keys.secret = value,
                "aws_session_token" => keys.token = Some(value),
                _ => {}
            }
        }
    }
    (!keys.id.is_empty() && !keys.secret.is_empty()).then_some(keys)
}

/// Signs the requests to a bucket.
pub(super) struct Signer {
    region: String,
    keys: Option<Reread<Keys>>,
}

impl Signer {
    /// # Errors
    /// In a sentence, when a file of credentials cannot be read or has none.
    pub(super) fn open(bucket: Bucket) -> Result<Self, String> {
        let keys = bucket.credentials.map(|credentials| {
            Reread::open(matches!(credentials, Credentials::Keys(_)), move || credentials.keys())
        });
        Ok(Self { region: bucket.region, keys: keys.transpose()? })
    }

    /// Adds the headers that sign a GET of `target` at `host`. Those that are there already stay outside of the signature: they
    /// may be changed on the way.
    pub(super) async fn sign(
        &self,
        host: &HeaderValue,
        target: &str,
        at: SystemTime,
        headers: &mut HeaderMap,
    ) {
        let Some(keys) = &self.keys else { return };
        let keys = keys.value().await;
        let time = basic(at);
        let mut signed = vec![("host", text(host)), (BODY, NO_BODY), (DATE, &time)];
        signed.extend(keys.token.as_deref().map(|token| (TOKEN, token)));
        let authorization = authorization(&keys, &self.region, &time, target, &signed);
        // Host is there already.
        for (name, value) in signed.into_iter().skip(1).chain([("authorization", &*authorization)]) {
            if let Ok(mut value) = HeaderValue::from_str(value) {
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// A time as `20130524T000000Z` (ISO 8601, basic format).
fn basic(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().replace(['-', ':'], "")
}

/// The value of Authorization for a GET of a target without a query, at this time, with these headers in the order of their
/// names.
fn authorization(keys: &Keys, region: &str, time: &str, target: &str, signed: &[(&str, &str)]) -> String {
    let date = &time[..time.len().min(8)];
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let request = format!("GET\n{target}\n\n{lines}\n{names}\n{NO_BODY}");
    let scope = format!("{date}/{region}/s3/aws4_request");
    let hash = hex(digest(&SHA256, request.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
    let secret = format!("AWS4{}", keys.secret).into_bytes();
    let key = [date, region, "s3", "aws4_request"].into_iter().fold(secret, |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &text));
    format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", keys.id)
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_example_of_the_reference_has_its_signature() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let time = basic(SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600));
        let signed = [
            ("host", "examplebucket.s3.amazonaws.com"),
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", NO_BODY),
            ("x-amz-date", "20130524T000000Z"),
        ];
        assert_eq!(
            authorization(&keys, "us-east-1", &time, "/test.txt", &signed),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn a_file_has_keys_by_profile() {
        let text = "\u{feff}[default]\naws_access_key_id = A\naws_secret_access_key=b/c=\n\n[eu]\r\naws_access_key_id=E\r\n\
            aws_secret_access_key=s\r\naws_session_token=t\r\n[half]\naws_access_key_id=H\n";
        let keys = |id: &str, secret: &str, token: Option<&str>| {
            Some(Keys { id: id.into(), secret: secret.into(), token: token.map(Into::into) })
        };
        assert_eq!(
            section(text, "default").map(|keys| (keys.id, keys.secret)),
            Some(("A".into(), "b/c=".into()))
        );
        assert!(section(text, "eu") == keys("E", "s", Some("t")));
        assert!(section(text, "half").is_none() && section(text, "us").is_none());
        let shown = format!("{:?}", Credentials::Keys(section(text, "eu").unwrap()));
        assert_eq!(shown, "E: …", "no secret is shown");
    }
}
