//! The cost of connections alone: a server that replies to every request with the same line.

use std::net::TcpListener;

use dproxy::cores;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The only argument that makes this program such a server.
pub(crate) const WORD: &str = "serve-one-line";

/// Prints its address as a node does, and serves until it is killed.
pub(crate) fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    println!("listens on {}", listener.local_addr().expect("its address"));
    cores::runtime().expect("a runtime").block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let line = format!("1 {}\n", super::made::document(1, 1060));
        while let Ok((mut stream, _)) = listener.accept().await {
            let line = line.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 512];
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    if stream.write_all(line.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}
