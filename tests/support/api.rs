//! An API by a script, over HTTP/1.1: it records its requests, and answers soundly or with any bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Address, PATIENCE, pause};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    /// How many came on its connection before.
    pub(crate) before: usize,
    /// How many for this path and query came before.
    pub(crate) number_of_its_target: usize,
}

impl Got {
    /// The value of a header, or empty.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
    }
}

/// What the API does about a request.
pub(crate) enum Act {
    /// Writes bytes and waits for the next request.
    Say(Vec<u8>),
    /// Writes bytes and closes.
    Last(Vec<u8>),
    /// Writes bytes and then nothing until the client closes.
    Hang(Vec<u8>),
    /// Writes bytes, and then others again and again, with pauses of this time, until the client closes.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

/// A response with its length.
pub(crate) fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let lines: String =
        headers.split('|').map(str::trim).filter(|it| !it.is_empty()).map(|it| format!("{it}\r\n")).collect();
    let head = format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A 200 with these headers, parted by `|`.
pub(crate) fn ok(headers: &str, body: impl AsRef<[u8]>) -> Act {
    Act::Say(response("200 OK", headers, body))
}

/// A running API. It accepts no connections after its drop.
pub(crate) struct Api {
    pub(crate) address: Address,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    stopping: AtomicBool,
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Got>>,
}

/// A connection before or after TLS.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

impl Api {
    pub(crate) fn start(script: impl Fn(&Got) -> Act + Send + Sync + 'static) -> Self {
        Self::start_as(|stream| Some(Box::new(stream)), script)
    }

    /// Each connection is first wrapped, which may fail.
    pub(crate) fn start_as(
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Wire>> + Send + Sync + 'static,
        script: impl Fn(&Got) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address(listener.local_addr().expect("its address"));
        let seen = Arc::new(Seen::default());
        let (state, script, wrap) = (seen.clone(), Arc::new(script), Arc::new(wrap));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if state.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (state, script, wrap) = (state.clone(), script.clone(), wrap.clone());
                state.connections.fetch_add(1, Ordering::SeqCst);
                state.open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let socket = stream.try_clone().expect("a second handle");
                    if let Some(wire) = wrap(stream) {
                        serve(wire, &state, &*script);
                    }
                    let _ = socket.shutdown(Shutdown::Both);
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen }
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Got> {
        self.seen.requests.lock().expect("the requests").clone()
    }

    /// The requests for this path and query.
    pub(crate) fn requests_for(&self, target: &str) -> Vec<Got> {
        self.requests().into_iter().filter(|got| got.target == target).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// The URL of its root.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.seen.stopping.store(true, Ordering::SeqCst);
        let _ = self.address.connect();
    }
}

fn serve(wire: Box<dyn Wire>, seen: &Seen, script: &dyn Fn(&Got) -> Act) {
    let mut wire = BufReader::new(wire);
    for before in 0.. {
        let Some(mut got) = read(&mut wire, before) else { return };
        {
            let mut requests = seen.requests.lock().expect("the requests");
            got.number_of_its_target = requests.iter().filter(|other| other.target == got.target).count();
            requests.push(got.clone());
        }
        let (bytes, goes_on) = match script(&got) {
            Act::Say(bytes) => (bytes, true),
            Act::Last(bytes) => (bytes, false),
            Act::Hang(bytes) => {
                let _ = wire.get_mut().write_all(&bytes).and_then(|()| wire.get_mut().flush());
                let _ = wire.read(&mut [0]);
                return;
            }
            Act::Endless(head, piece, pace) => {
                let mut bytes = head;
                while wire.get_mut().write_all(&bytes).and_then(|()| wire.get_mut().flush()).is_ok() {
                    pause(pace);
                    bytes.clone_from(&piece);
                }
                return;
            }
        };
        if wire.get_mut().write_all(&bytes).and_then(|()| wire.get_mut().flush()).is_err() || !goes_on {
            return;
        }
    }
}

fn read(wire: &mut impl BufRead, before: usize) -> Option<Got> {
    let mut line = || {
        let mut line = String::new();
        wire.read_line(&mut line).ok().filter(|&n| n > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let target = first.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Got { target, headers, before, number_of_its_target: 0 })
}
