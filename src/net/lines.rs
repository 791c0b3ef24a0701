//! Lines out of a stream: `tokio_util`'s `LinesCodec`, made strict.
//!
//! By itself the codec hands out an unterminated tail as a line, so that `GET article/12` cut short becomes a request for
//! `article/1`, and it resumes after a line that is too long. Here either is an error, as is text that is not UTF-8, and
//! after an error nothing more comes: the connection is over. Request lines (`inbox`) and plain replies (`link::plain`)
//! are read with it.

use std::io;

use bytes::BytesMut;
use thiserror::Error;
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};

/// The reason that no further line follows.
#[derive(Debug, Error)]
pub(super) enum LineError {
    /// More bytes than the maximum without a line end.
    #[error("the line is too long")]
    TooLong,
    /// A line that is not UTF-8.
    #[error("the line is not UTF-8")]
    NotText,
    /// Bytes without a line end, and the end of the stream.
    #[error("the stream ended before the line did")]
    CutShort,
    /// The stream failed.
    #[error(transparent)]
    Stream(#[from] io::Error),
}

/// Decodes lines and removes their ends, `\n` or `\r\n`.
pub(super) struct Lines {
    codec: LinesCodec,
    is_over: bool,
}

impl Lines {
    /// Lines of at most `max` bytes without the `\n`.
    pub(super) fn new(max: usize) -> Self {
        Self { codec: LinesCodec::new_with_max_length(max), is_over: false }
    }

    fn end(&mut self, bytes: &mut BytesMut, error: LineError) -> LineError {
        self.is_over = true;
        bytes.clear();
        error
    }
}

impl Decoder for Lines {
    type Item = String;
    type Error = LineError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<String>, LineError> {
        if self.is_over {
            bytes.clear();
            return Ok(None);
        }
        self.codec.decode(bytes).map_err(|error| {
            let error = match error {
                LinesCodecError::MaxLineLengthExceeded => LineError::TooLong,
                // The codec reads no stream: its only error of this kind is the encoding.
                LinesCodecError::Io(_) => LineError::NotText,
            };
            self.end(bytes, error)
        })
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<String>, LineError> {
        match self.decode(bytes)? {
            None if !bytes.is_empty() => Err(self.end(bytes, LineError::CutShort)),
            line => Ok(line),
        }
    }
}

/// A line may end in CR LF.
pub(super) fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio_util::codec::FramedRead;

    use super::*;

    /// All lines of a stream, and the error at its end.
    async fn all(bytes: &[u8]) -> (Vec<String>, Option<LineError>) {
        let mut reading = FramedRead::with_capacity(bytes, Lines::new(7), 4);
        let (mut lines, mut error) = (Vec::new(), None);
        while let Some(next) = reading.next().await {
            match next {
                Ok(line) => lines.push(line),
                Err(why) => assert!(error.replace(why).is_none(), "one error, the last word"),
            }
        }
        assert!(reading.next().await.is_none(), "it stays over");
        (lines, error)
    }

    #[tokio::test]
    async fn gives_whole_lines_without_their_ends() {
        let (lines, error) = all(b"a\n\nb\r\n1234567\n123456\r\n").await;
        assert_eq!(lines, ["a", "", "b", "1234567", "123456"]);
        assert!(error.is_none(), "{error:?}");
    }

    #[tokio::test]
    async fn a_tail_is_no_line() {
        for tail in [&b"GET a/1"[..], b"G", b"\r"] {
            let (lines, error) = all(&[b"a\n", tail].concat()).await;
            assert_eq!(lines, ["a"]);
            assert!(matches!(error, Some(LineError::CutShort)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn nothing_comes_after_a_line_that_is_too_long() {
        for long in [&b"12345678\nb\n"[..], b"1234567\r\nb\n", b"123456789012345678\nb\n", b"12345678"] {
            let (lines, error) = all(&[b"a\n", long].concat()).await;
            assert_eq!(lines, ["a"]);
            assert!(matches!(error, Some(LineError::TooLong)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn nothing_comes_after_bytes_that_are_not_text() {
        let (lines, error) = all(b"a\nb\xff\nc\n").await;
        assert_eq!(lines, ["a"]);
        assert!(matches!(error, Some(LineError::NotText)), "{error:?}");
    }
}
