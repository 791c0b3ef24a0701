//! Fake upstreams: they record their requests and reply by a script, soundly or with a fault. One that is asked over HTTP answers so,
//! too: OK is a 200 with the data as its body, NOT_FOUND a 404; any other line is no response.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::ask::Address;
use super::{PATIENCE, pause};

/// The reaction of a fake to `HELLO 2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hello {
    /// As older nodes do: an error in loose JSON, and a close.
    Refused,
    /// As the oldest nodes do: a close without a reply.
    Ignored,
    /// A session whose requests are answered one after the other.
    Granted,
}

/// One request at a fake, and the way to reply.
pub(crate) struct Asked<'a> {
    id: Option<u64>,
    /// Verb and path, without options.
    pub(crate) request: &'a str,
    /// The options.
    pub(crate) options: &'a str,
    /// It came over HTTP/1.1.
    is_http: bool,
    stream: &'a mut TcpStream,
}

impl Asked<'_> {
    /// The path of a GET.
    pub(crate) fn path(&self) -> Option<&str> {
        self.request.strip_prefix("GET ")
    }

    /// Replies with a whole line. The client may have closed.
    pub(crate) fn reply(&mut self, line: &str) {
        let response = self.is_http.then(|| response(line)).flatten();
        self.part(&response.unwrap_or_else(|| format!("{line}\n")));
    }

    /// Replies soundly after `wait`; later requests of the session are answered meanwhile.
    pub(crate) fn answer_soundly_after(&self, wait: impl FnOnce() + Send + 'static) {
        let Ok(mut stream) = self.stream.try_clone() else { return };
        let (id, is_http, request) = (self.id, self.is_http, self.request.to_owned());
        let answer = move || {
            wait();
            answer_soundly(&mut Asked { id, request: &request, options: "", is_http, stream: &mut stream });
        };
        // A plain connection closes after its reply: no other request waits.
        match id {
            Some(_) => drop(thread::spawn(answer)),
            None => answer(),
        }
    }

    /// Begins a line: the id, if any, and text.
    pub(crate) fn part(&mut self, text: &str) {
        let id = self.id.map(|id| format!("{id} ")).unwrap_or_default();
        self.raw(format!("{id}{text}").as_bytes());
    }

    /// Writes bytes unchanged; false if the client has closed.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Ends the connection, and the session with it.
    pub(crate) fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until the client closes, without a reply.
    pub(crate) fn wait_for_close(&mut self) {
        let mut nothing = [0; 512];
        while matches!(self.stream.read(&mut nothing), Ok(n) if n > 0) {}
    }
}

/// Holds replies back until it is opened, once.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn wait(&self) {
        let (open, opened) = &*self.0;
        let open = open.lock().expect("the gate");
        drop(opened.wait_timeout_while(open, PATIENCE, |open| !*open).expect("the gate"));
    }

    pub(crate) fn open(&self) {
        let (open, opened) = &*self.0;
        *open.lock().expect("the gate") = true;
        opened.notify_all();
    }

    /// A fake with sessions that replies soundly once the gate is open.
    pub(crate) fn peer(&self) -> Fake {
        let gate = self.clone();
        Fake::start(Hello::Granted, move |asked| {
            let gate = gate.clone();
            asked.answer_soundly_after(move || gate.wait());
        })
    }
}

/// A running fake. It accepts no connections after its drop.
pub(crate) struct Fake {
    pub(crate) address: Address,
    seen: Arc<Seen>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    stopping: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Fake {
    /// A fake that replies to every request by the script.
    pub(crate) fn start(hello: Hello, script: impl Fn(&mut Asked<'_>) + Send + Sync + 'static) -> Self {
        Self::start_on(Address::loopback(0), hello, script)
    }

    /// A fake at this address; port 0 is any port.
    pub(crate) fn start_on(
        address: Address,
        hello: Hello,
        script: impl Fn(&mut Asked<'_>) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address.0).expect("a port for a peer");
        let address = Address(listener.local_addr().expect("its address"));
        let seen = Arc::new(Seen::default());
        let acceptor = thread::spawn({
            let seen = seen.clone();
            let script = Arc::new(script);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if seen.stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    seen.connections.fetch_add(1, Ordering::SeqCst);
                    let (seen, script) = (seen.clone(), script.clone());
                    thread::spawn(move || serve(stream, hello, &seen, &*script));
                }
            }
        });
        Self { address, seen, acceptor: Some(acceptor) }
    }

    /// A sound plain origin: every document is `{"path":"<path>"}`.
    pub(crate) fn origin() -> Self {
        Self::start(Hello::Refused, answer_soundly)
    }

    /// All requests so far, without HELLO and METRICS.
    pub(crate) fn requests(&self) -> Vec<String> {
        let all = self.seen.requests.lock().expect("the requests");
        all.iter().filter(|request| *request != "METRICS").cloned().collect()
    }

    /// The number of METRICS so far.
    pub(crate) fn polls(&self) -> usize {
        let all = self.seen.requests.lock().expect("the requests");
        all.iter().filter(|request| *request == "METRICS").count()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.seen.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the stop flag.
        let _ = self.address.connect();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Replies to GET and METRICS as a sound origin or proxy.
pub(crate) fn answer_soundly(asked: &mut Asked<'_>) {
    let line = match asked.path() {
        Some(path) => format!("{{\"status\":\"OK\",\"data\":{{\"path\":\"{path}\"}}}}"),
        None => METRICS.to_owned(),
    };
    asked.reply(&line);
}

/// The METRICS of a proxy at rest.
pub(crate) const METRICS: &str = r#"{"status":"OK","data":{"start_time":"2024-05-01T10:00:00Z","total_requests":0,"hit_rate":0,"hits":0,"misses":0,"origin_fetches":0}}"#;

fn serve(stream: TcpStream, hello: Hello, seen: &Seen, script: &dyn Fn(&mut Asked<'_>)) {
    let limits = stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE)));
    let (Ok(()), Ok(mut writer)) = (limits, stream.try_clone()) else { return };
    let mut lines = BufReader::new(stream);
    let Some(first) = next_line(&mut lines) else { return };
    if first.ends_with(" HTTP/1.1") {
        return serve_http(first, &mut lines, &mut writer, seen, script);
    }
    if first != "HELLO 2" {
        return answer(None, &first, &mut writer, seen, script);
    }
    match hello {
        Hello::Ignored => return,
        Hello::Refused => {
            let _ = writer.write_all(b"{\"status\": \"WRONG_METHOD: HELLO\", \"data\": null}\n");
            return;
        }
        Hello::Granted => {
            let granted = b"{\"status\":\"OK\",\"data\":{\"protocol\":2,\"max_in_flight\":1024}}\n";
            let _ = writer.write_all(granted);
        }
    }
    while let Some(line) = next_line(&mut lines) {
        let Some((id, request)) = line.split_once(' ') else { return };
        let Ok(id) = id.parse() else { return };
        answer(Some(id), request, &mut writer, seen, script);
    }
}

fn answer(id: Option<u64>, line: &str, stream: &mut TcpStream, seen: &Seen, script: &dyn Fn(&mut Asked<'_>)) {
    let words = line.split(' ').take(2).map(str::len).sum::<usize>();
    let request = &line[..(words + 1).min(line.len())];
    seen.requests.lock().expect("the requests").push(request.to_owned());
    let options = line[request.len()..].trim_start();
    script(&mut Asked { id, request, options, is_http: false, stream });
}

/// Answers requests on a connection, until it ends or what was written was no response.
fn serve_http(
    first: String,
    lines: &mut BufReader<TcpStream>,
    stream: &mut TcpStream,
    seen: &Seen,
    script: &dyn Fn(&mut Asked<'_>),
) {
    let mut line = Some(first);
    while let Some(path) = line.as_deref().and_then(|line| line.strip_prefix("GET /")?.split(' ').next()) {
        let request = format!("GET {path}");
        while next_line(lines).is_some_and(|header| !header.is_empty()) {}
        seen.requests.lock().expect("the requests").push(request.clone());
        script(&mut Asked { id: None, request: &request, options: "", is_http: true, stream });
        line = next_line(lines);
    }
}

/// The response that says what a line does, if there is one.
fn response(line: &str) -> Option<String> {
    let (status, body) = match line.strip_prefix("{\"status\":\"OK\",\"data\":") {
        Some(data) => ("200 OK", data.strip_suffix('}')?),
        None if line.starts_with("{\"status\":\"NOT_FOUND\"") => ("404 Not Found", "null"),
        None => return None,
    };
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

fn next_line(lines: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    lines.read_line(&mut line).ok().filter(|&n| n > 0)?;
    Some(line.trim_end().to_owned())
}

/// Faults of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Closes without a byte.
    Close,
    /// Half a line, then a close.
    HalfLine,
    /// A line without its end, then silence.
    NoLineEnd,
    /// This line.
    Line(&'static str),
    /// Endless bytes without a line end.
    Endless,
    /// A sound reply, one byte per second.
    Drip,
    /// No byte until the client closes.
    Silent,
}

impl Fault {
    /// Every fault in every variant.
    pub(crate) const ALL: [Fault; 18] = [
        Fault::Close,
        Fault::HalfLine,
        Fault::NoLineEnd,
        Fault::Endless,
        Fault::Drip,
        Fault::Silent,
        Fault::Line(""),
        Fault::Line("hello"),
        Fault::Line("null"),
        Fault::Line("[]"),
        Fault::Line("{}"),
        Fault::Line(r#"{"state":"fine"}"#),
        Fault::Line(r#"{"status":"OK"}"#),
        Fault::Line(r#"{"status":"MAYBE","data":{}}"#),
        Fault::Line(r#"{"status":"OK","data":{"a":NaN}}"#),
        Fault::Line(r#"{"status":"OK","data":{}"#),
        Fault::Line(r#"{"status":"OK","data":{}}{"status":"OK","data":{}}"#),
        Fault::Line("HTTP/1.1 200 OK"),
    ];

    /// Fails one request.
    pub(crate) fn strike(self, asked: &mut Asked<'_>) {
        const SOUND: &str = r#"{"status":"OK","data":{"a":"long enough to be cut"}}"#;
        match self {
            Fault::Close => asked.close(),
            Fault::HalfLine => {
                asked.part(&SOUND[..30]);
                asked.close();
            }
            Fault::NoLineEnd => {
                asked.part(SOUND);
                asked.wait_for_close();
            }
            Fault::Line(line) => asked.reply(line),
            Fault::Endless => {
                asked.part(r#"{"status":"OK","data":""#);
                while asked.raw(&[b'x'; 16 * 1024]) {}
            }
            Fault::Drip => {
                asked.part("{");
                for byte in &SOUND.as_bytes()[1..] {
                    pause(Duration::from_secs(1));
                    if !asked.raw(&[*byte]) {
                        return;
                    }
                }
            }
            Fault::Silent => asked.wait_for_close(),
        }
    }
}
