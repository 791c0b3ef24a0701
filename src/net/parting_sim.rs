//! In a simulated network a close costs nothing: the last bytes are as all others.

use tokio::io::AsyncWrite;

use super::transport::Stream;

pub(super) fn last_words(stream: &mut Stream) -> impl AsyncWrite + Unpin {
    stream
}
