//! A session as a client with nothing but a socket speaks it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use super::ask::{Address, parse};

/// An open session.
pub(crate) struct Session {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
    /// How many requests the node lets be open at once.
    pub(crate) max_in_flight: u64,
}

impl Session {
    /// Asks for a session, which the node must grant.
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

    /// Writes text as it stands.
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

    /// The next reply and the id that it is for.
    pub(crate) fn reply(&mut self) -> (u64, String) {
        let line = self.line().expect("a reply, not the end of the session");
        let (id, reply) = line.split_once(' ').unwrap_or_else(|| panic!("no id in {line:?}"));
        (id.parse().unwrap_or_else(|_| panic!("no id in {line:?}")), reply.to_owned())
    }

    /// Asks one request and takes its reply.
    pub(crate) fn ask(&mut self, id: u64, request: &str) -> String {
        self.send(&format!("{id} {request}\n"));
        let (answered, reply) = self.reply();
        assert_eq!(answered, id, "{reply}");
        reply
    }

    /// The replies to the ids, each exactly once, in any order.
    pub(crate) fn replies_to(&mut self, ids: impl IntoIterator<Item = u64>) -> HashMap<u64, String> {
        let mut open: Vec<u64> = ids.into_iter().collect();
        let mut replies = HashMap::new();
        while !open.is_empty() {
            let (id, reply) = self.reply();
            let at = open.iter().position(|&asked| asked == id);
            open.swap_remove(at.unwrap_or_else(|| panic!("{id} was not asked, or twice answered: {reply}")));
            replies.insert(id, reply);
        }
        replies
    }
}
