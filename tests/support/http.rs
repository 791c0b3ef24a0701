//! A client of HTTP, over a plain socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::ask::Address;

/// A parsed response.
pub(crate) struct Response {
    pub(crate) code: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A header's value, or empty.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The names of all headers, as often as each came.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

/// A kept-alive connection.
pub(crate) struct Http(BufReader<TcpStream>);

impl Http {
    pub(crate) fn connect(to: Address) -> Self {
        Self(BufReader::new(to.connect().unwrap_or_else(|error| panic!("connect to {to}: {error}"))))
    }

    /// Sends a request with these header lines and reads the whole response.
    pub(crate) fn ask(&mut self, method: &str, target: &str, headers: &[&str], body: &str) -> Response {
        let mut request = format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        for header in headers {
            request += &format!("{header}\r\n");
        }
        if !body.is_empty() {
            request += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        self.send(format!("{request}\r\n{body}").as_bytes());
        self.response(method == "HEAD")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("a node that reads");
    }

    /// The next response; one to HEAD has no body, as 304 has none.
    pub(crate) fn response(&mut self, to_head: bool) -> Response {
        let status = self.line();
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("not the line of a response: {status:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut response = Response { code, headers, body: Vec::new() };
        if to_head || code == 304 {
            return response;
        }
        if let Ok(length) = response.header("content-length").parse::<usize>() {
            self.body(length, &mut response.body);
        }
        while response.header("transfer-encoding") == "chunked" {
            let length = usize::from_str_radix(&self.line(), 16).expect("the length of a chunk");
            self.body(length, &mut response.body);
            self.line();
            if length == 0 {
                break;
            }
        }
        response
    }

    fn body(&mut self, length: usize, body: &mut Vec<u8>) {
        let before = body.len();
        body.resize(before + length, 0);
        self.0.read_exact(&mut body[before..]).expect("the whole body");
    }

    /// A line, its end removed; empty at the end of the stream.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Whether the node has closed without further bytes.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// One GET on its own connection.
pub(crate) fn fetch(to: Address, target: &str) -> Response {
    fetch_with(to, target, &[])
}

/// One GET with these header lines on its own connection.
pub(crate) fn fetch_with(to: Address, target: &str, headers: &[&str]) -> Response {
    Http::connect(to).ask("GET", target, headers, "")
}
