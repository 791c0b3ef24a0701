//! Requests over HTTP/1.1: one at a time on a connection that is kept alive, or a connection for each. Any server can be asked.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::MAX_REPLY;
use super::measurements::Failed;
use super::plain::next;
use super::response::{Body, Head};
use super::worker::Worker;
use crate::net::transport::Stream;
use crate::wire::Status;

/// The bytes that one read may return.
const READ_SIZE: usize = 64 * 1024;

/// Sends one request after the other until the run is over.
pub(super) async fn run(worker: Arc<Worker>, index: usize, keeps_alive: bool) {
    let mut path = Vec::new();
    let mut connection = Connection { kept: None, keeps_alive, buffer: Vec::with_capacity(READ_SIZE) };
    worker.wait_for_start().await;
    while let Some(due) = next(&worker, index, &mut path).await {
        let asked = connection.ask(&worker, &path);
        let result = timeout_at(due + worker.config.timeout, asked).await.unwrap_or(Err(Failed::Late));
        let now = Instant::now();
        match result {
            Ok((status, hit, length)) => {
                worker.state().measurements.answered(due, now, status, hit, length);
            }
            Err(failed) => {
                connection.kept = None;
                worker.state().measurements.failure(due, now, failed);
                if failed == Failed::Refused && !worker.pause().await {
                    return;
                }
            }
        }
    }
}

struct Connection {
    /// Between two requests, if it is kept.
    kept: Option<Stream>,
    keeps_alive: bool,
    /// The bytes of the response so far, but not those of a body whose length is known.
    buffer: Vec<u8>,
}

impl Connection {
    /// The status of the response, whether it came from a cache if it says so, and its bytes in all.
    async fn ask(&mut self, worker: &Worker, path: &[u8]) -> Result<(Status, Option<bool>, usize), Failed> {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => worker.dial().await.map_err(|_| Failed::Refused)?.stream,
        };
        let close = if self.keeps_alive { "" } else { "connection: close\r\n" };
        let rest = format!(" HTTP/1.1\r\nhost: {}\r\n{close}\r\n", worker.config.peer);
        self.buffer.clear();
        self.buffer.extend_from_slice(b"GET /");
        self.buffer.extend_from_slice(path);
        self.buffer.extend_from_slice(rest.as_bytes());
        stream.write_all(&self.buffer).await.map_err(|_| Failed::Broken)?;
        self.buffer.clear();
        let head = loop {
            self.read(&mut stream).await?;
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        let length = self.body(&mut stream, &head).await?;
        if self.keeps_alive && head.keeps_alive {
            self.kept = Some(stream);
        }
        let status = match head.code {
            200 => Status::Ok,
            404 | 410 => Status::NotFound,
            _ => return Err(Failed::Status),
        };
        Ok((status, head.hit, length))
    }

    /// Reads the rest of the response; returns the length of all of it.
    async fn body(&mut self, stream: &mut Stream, head: &Head) -> Result<usize, Failed> {
        loop {
            let whole = match head.body {
                Body::Length(length) => Some(head.length.saturating_add(length)),
                Body::Chunked => head.end_of_chunks(&self.buffer)?,
            };
            match whole {
                Some(whole) if whole > MAX_REPLY || whole < self.buffer.len() => return Err(Failed::Bad),
                Some(whole) if whole == self.buffer.len() => return Ok(whole),
                Some(whole) if matches!(head.body, Body::Length(_)) => {
                    return self.skip(stream, whole).await;
                }
                _ => self.read(stream).await?,
            }
        }
    }

    /// Reads up to the end of a response of this length without keeping it.
    async fn skip(&mut self, stream: &mut Stream, whole: usize) -> Result<usize, Failed> {
        let mut length = self.buffer.len();
        while length < whole {
            self.buffer.clear();
            self.read(stream).await?;
            length += self.buffer.len();
        }
        if length == whole { Ok(whole) } else { Err(Failed::Bad) }
    }

    /// Reads more of the response into the buffer.
    async fn read(&mut self, stream: &mut Stream) -> Result<(), Failed> {
        if self.buffer.len() > MAX_REPLY {
            return Err(Failed::Bad);
        }
        self.buffer.reserve(READ_SIZE);
        match stream.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => Err(Failed::Broken),
            Ok(_) => Ok(()),
        }
    }
}
