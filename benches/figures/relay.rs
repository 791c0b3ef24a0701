//! A relay between the balancer and a proxy that corrupts replies on command.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dproxy::cores;
use memchr::memmem;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep_until};

/// The treatment of replies.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// Unchanged.
    Sound,
    /// Delayed by this time.
    Slow(Duration),
    /// Replaced by garbage.
    Garbage,
    /// A reset within the first reply.
    Reset,
}

/// Buffered reads per connection.
const BUFFERED: usize = 64 * 1024;

/// A running relay; it ends with the process.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
}

impl Relay {
    /// A relay that changes nothing yet, on its own thread, so that it does not delay the load.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("its address");
        let mode = Arc::new(Mutex::new(Mode::Sound));
        let relayed = mode.clone();
        std::thread::spawn(move || {
            let runtime = cores::runtime().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(pass(near, to, relayed.clone()));
                }
            });
        });
        Self { address, mode }
    }

    /// Sets the treatment from now on.
    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().expect("the mode") = mode;
    }
}

/// One connection.
async fn pass(near: TcpStream, to: SocketAddr, mode: Arc<Mutex<Mode>>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (mut asks, near) = near.into_split();
    let (replies, mut far) = far.into_split();
    let (late, due) = channel(BUFFERED);
    // The end of one direction ends the connection.
    tokio::select! {
        _ = tokio::io::copy(&mut asks, &mut far) => {}
        () = deliver(near, due) => {}
        () = async {
            let mut replies = replies;
            while let Some(bytes) = read(&mut replies).await {
                let mode = *mode.lock().expect("the mode");
                if late.send((Instant::now(), mode, bytes)).await.is_err() {
                    break;
                }
            }
        } => {}
    }
}

async fn read(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    from.read_buf(&mut bytes).await.ok().filter(|&n| n > 0)?;
    Some(bytes)
}

/// Writes the bytes by the mode.
async fn deliver(mut to: OwnedWriteHalf, mut due: Receiver<(Instant, Mode, Vec<u8>)>) {
    while let Some((came, mode, mut bytes)) = due.recv().await {
        match mode {
            Mode::Sound => {}
            Mode::Slow(by) => sleep_until(came + by).await,
            Mode::Garbage => {
                let spoilt: Vec<usize> = memmem::find_iter(&bytes, "\"status\"").collect();
                spoilt.into_iter().for_each(|at| bytes[at + 1] = b'#');
            }
            Mode::Reset => {
                // Half of the reply, then a reset.
                let _ = to.write_all(&bytes[..bytes.len() / 2]).await;
                let _ = SockRef::from(to.as_ref()).set_linger(Some(Duration::ZERO));
                return;
            }
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
