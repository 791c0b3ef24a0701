//! A header for each request to an API: `Name: value`, where `@FILE` at the end of the value stands for what the file holds.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::reread::Reread;

/// The largest file.
const LARGEST: usize = 16 * 1024;
/// Headers that this node writes itself, or that would change what the answer means.
const OURS: [HeaderName; 14] = [
    ACCEPT_ENCODING,
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A header as it was written. Its value is in no log: what shows it shows the name.
#[derive(Clone, PartialEq, Eq)]
pub struct OriginHeader {
    name: HeaderName,
    /// The value, or what stands before the file's.
    text: String,
    file: Option<PathBuf>,
}

impl fmt::Debug for OriginHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

impl FromStr for OriginHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "write it as 'Name: value', such as 'Authorization: Bearer @FILE'".to_owned();
        let (name, value) = text.split_once(':').ok_or_else(shape)?;
        let name: HeaderName = name.trim().parse().map_err(|_| shape())?;
        if OURS.contains(&name) {
            return Err(format!("{name} is written by dproxy itself"));
        }
        let value = value.trim();
        let (text, file) = match value.rsplit_once('@') {
            Some((before, path)) if before.is_empty() || before.ends_with(' ') => (before, Some(path)),
            _ => (value, None),
        };
        if file == Some("") {
            return Err("write the path of a file behind @".to_owned());
        }
        HeaderValue::from_str(text)
            .map_err(|_| "the value has a character that no header may have".to_owned())?;
        Ok(Self { name, text: text.to_owned(), file: file.map(PathBuf::from) })
    }
}

impl OriginHeader {
    /// The value with what the file holds now. Blocks.
    fn value(&self) -> Result<HeaderValue, String> {
        let text = match &self.file {
            None => self.text.clone(),
            Some(path) => {
                let held = std::fs::read_to_string(path)
                    .map_err(|error| format!("the file {path:?} of {} cannot be read: {error}", self.name))?;
                if held.trim().is_empty() || held.len() > LARGEST {
                    return Err(format!("the file {path:?} of {} is empty or too large", self.name));
                }
                format!("{}{}", self.text, held.trim())
            }
        };
        let value = HeaderValue::from_str(&text);
        let mut value = value
            .map_err(|_| format!("the value of {} has a character that no header may have", self.name))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// A header, and its value as it was read last.
pub(super) struct Header {
    name: HeaderName,
    value: Reread<HeaderValue>,
}

impl Header {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// In a sentence, when it cannot be read or holds no value.
    pub(super) fn open(written: OriginHeader) -> Result<Self, String> {
        let (name, is_fixed) = (written.name.clone(), written.file.is_none());
        Ok(Self { name, value: Reread::open(is_fixed, move || written.value())? })
    }

    pub(super) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The value, with what the file holds.
    pub(super) async fn value(&self) -> HeaderValue {
        self.value.value().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::reread::READ_EVERY;
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value_or_a_file() {
        let parse = |text: &str| text.parse::<OriginHeader>();
        let header = parse("Authorization:  Bearer @/run/token").unwrap();
        assert_eq!(header.name, "authorization");
        assert_eq!((&*header.text, header.file.as_deref()), ("Bearer ", Some("/run/token".as_ref())));
        assert_eq!(format!("{header:?}"), "authorization: …");
        assert_eq!(parse("X-Key: @key").unwrap().file, Some("key".into()));
        assert_eq!(parse("From: me@example.com").unwrap().value().unwrap(), "me@example.com");
        for (bad, word) in [
            ("x", "Name: value"),
            (": x", "Name: value"),
            ("a b: x", "Name: value"),
            ("Host: x", "itself"),
            ("if-none-match: x", "itself"),
            ("X: a\u{7}", "character"),
            ("X: Bearer @", "path"),
        ] {
            assert!(parse(bad).is_err_and(|why| why.contains(word)), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_anew_and_a_bad_one_changes_nothing() {
        let path = std::env::temp_dir().join(format!("dproxy-token-{}", std::process::id()));
        std::fs::write(&path, "one\n").unwrap();
        let header: OriginHeader = format!("Authorization: Bearer @{}", path.display()).parse().unwrap();
        let written = header.clone();
        let header = Header::open(header).unwrap();
        assert_eq!(header.value().await, "Bearer one");
        for (text, value) in
            [("two", "Bearer two"), ("", "Bearer two"), ("a\nb", "Bearer two"), ("3", "Bearer 3")]
        {
            std::fs::write(&path, text).unwrap();
            tokio::time::advance(READ_EVERY).await;
            assert_eq!(header.value().await, value, "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        tokio::time::advance(READ_EVERY).await;
        assert_eq!(header.value().await, "Bearer 3");
        assert!(Header::open(written).is_err_and(|why| why.contains("cannot be read")));
    }
}
