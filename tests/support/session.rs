//! A session of a client, over a plain socket.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::ops::Range;

use super::ask::{Address, parse};

/// An open session.
pub(crate) struct Session {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
    /// The most requests that the node lets be open at once.
    pub(crate) max_in_flight: u64,
}

impl Session {
    /// Opens a session; panics if the node grants none.
    pub(crate) fn open(to: Address) -> Self {
        let stream = to.connect().unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        let replies = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut session = Self { stream, replies, max_in_flight: 0 };
        session.send("HELLO 2\n");
        let hello = session.line().expect("an answer to HELLO 2");
        let reply = parse(&hello);
        assert_eq!((&reply["status"], &reply["data"]["protocol"]), (&"OK".into(), &2.into()), "{hello}");
        session.max_in_flight = reply["data"]["max_in_flight"].as_u64().expect("max_in_flight");
        session
    }

    /// Opens a session; `None` if the node grants none.
    pub(crate) fn try_open(to: Address) -> Option<Self> {
        let stream = to.connect().ok()?;
        let replies = BufReader::new(stream.try_clone().ok()?);
        let mut session = Self { stream, replies, max_in_flight: 0 };
        session.send("HELLO 2\n");
        let reply = parse(&session.line()?);
        session.max_in_flight = reply["data"]["max_in_flight"].as_u64()?;
        Some(session)
    }

    /// Writes the text unchanged.
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("a session that takes requests");
    }

    /// The next line without its end; `None` at the end of the stream.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.replies.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.strip_suffix('\n').expect("a whole line").to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no line came"),
            Err(_) => None,
        }
    }

    /// The next reply, after its id.
    pub(crate) fn reply(&mut self) -> (u64, String) {
        let line = self.line().expect("a reply, not the end of the session");
        let (id, reply) = line.split_once(' ').unwrap_or_else(|| panic!("no id in {line:?}"));
        (id.parse().unwrap_or_else(|_| panic!("no id in {line:?}")), reply.to_owned())
    }

    /// Sends one request and reads its reply.
    pub(crate) fn ask(&mut self, id: u64, request: &str) -> String {
        self.send(&format!("{id} {request}\n"));
        let (answered, reply) = self.reply();
        assert_eq!(answered, id, "{reply}");
        reply
    }

    /// Sends one request per id, all before the first reply is read.
    pub(crate) fn send_many(&mut self, ids: Range<u64>, request: impl Fn(u64) -> String) {
        let lines: String = ids.map(|id| format!("{id} {}\n", request(id))).collect();
        self.send(&lines);
    }

    /// Sends one request per id and reads all replies.
    pub(crate) fn ask_many(
        &mut self,
        ids: Range<u64>,
        request: impl Fn(u64) -> String,
    ) -> HashMap<u64, String> {
        self.send_many(ids.clone(), request);
        self.replies_to(ids)
    }

    /// The replies to the ids, each exactly once, in any order.
    pub(crate) fn replies_to(&mut self, ids: impl IntoIterator<Item = u64>) -> HashMap<u64, String> {
        let mut open: Vec<u64> = ids.into_iter().collect();
        let mut replies = HashMap::new();
        while !open.is_empty() {
            let (id, reply) = self.reply();
            let at = open.iter().position(|&asked| asked == id);
            open.swap_remove(at.unwrap_or_else(|| panic!("{id} was not asked, or answered twice: {reply}")));
            replies.insert(id, reply);
        }
        replies
    }
}
