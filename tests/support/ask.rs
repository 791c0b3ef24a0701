//! A client of the plain protocol, over a plain socket.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// The address of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl Address {
    pub(crate) fn loopback(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }

    pub(crate) fn port(self) -> u16 {
        self.0.port()
    }

    pub(crate) fn host(self) -> String {
        self.0.ip().to_string()
    }

    /// A connection whose every read and write ends within [`PATIENCE`].
    pub(crate) fn connect(self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.0, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sends bytes and reads to the end of the stream. After bytes without a line end our stream ends.
///
/// A peer that closes early may break the write, and may reset after its reply: bytes before that count.
pub(crate) fn exchange(to: Address, bytes: &[u8]) -> Vec<u8> {
    let mut stream = to.connect().unwrap_or_else(|error| panic!("connect to {to}: {error}"));
    let written = stream.write_all(bytes).is_ok();
    if written && !bytes.ends_with(b"\n") {
        let _ = stream.shutdown(Shutdown::Write);
    }
    read_to_end(&mut stream)
}

/// All bytes until the peer closes or resets. Panics if it does neither within [`PATIENCE`].
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return answer,
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the peer did not close"),
            Err(_) => return answer,
        }
    }
}

/// Sends one line; the reply must be exactly one line and a close. Returned without the line end.
pub(crate) fn ask(to: Address, line: &str) -> String {
    one_line(&exchange(to, format!("{line}\n").as_bytes()), line)
}

/// Checks that the bytes are exactly one line, and removes its end.
pub(crate) fn one_line(answer: &[u8], asked: &str) -> String {
    let text = String::from_utf8(answer.to_vec()).expect("an answer in UTF-8");
    let line = text.strip_suffix('\n');
    match line {
        Some(line) if !line.contains(['\n', '\r']) && !line.is_empty() => line.to_owned(),
        _ => panic!("asked {asked:?}, and got what is not exactly one line: {text:?}"),
    }
}

/// Sends a GET; returns the reply as JSON.
pub(crate) fn get(to: Address, path: &str) -> Value {
    parse(&ask(to, &format!("GET {path}")))
}

/// A reply as JSON.
pub(crate) fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// The status of a reply line.
pub(crate) fn status_of(line: &str) -> String {
    parse(line)["status"].as_str().unwrap_or_else(|| panic!("no status in {line:?}")).to_owned()
}

/// Sends one line; a failure is an `Err` with its reason.
pub(crate) fn try_ask(to: Address, line: &str) -> Result<String, String> {
    let mut stream = to.connect().map_err(|error| format!("connect: {error}"))?;
    // A failed write shows in the missing reply.
    let _ = stream.write_all(format!("{line}\n").as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("read: {error} after {answer:?}"))?;
    match answer.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(format!("a cut answer: {answer:?}")),
    }
}

/// Sends bytes and reads the first line, without its end; the connection may stay open.
pub(crate) fn first_line(to: Address, bytes: &[u8]) -> String {
    let mut stream = to.connect().unwrap_or_else(|error| panic!("connect to {to}: {error}"));
    stream.write_all(bytes).expect("a node that reads");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    line.trim_end_matches('\n').to_owned()
}
