//! Bodies of responses: whole texts, and streams of axum.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::streams::Streams;

/// A body.
pub(super) enum Body {
    /// The whole body; empty once it is sent.
    Whole(Bytes),
    /// A page or an event stream of axum.
    Stream(axum::body::Body),
}

impl Body {
    /// This body, its bytes counted as unread until the socket of its connection has taken them.
    pub(super) fn counted(self, streams: &Arc<Streams>) -> Self {
        match self {
            Body::Whole(bytes) => Body::Whole(streams.counted(bytes)),
            Body::Stream(body) => Body::Stream(body),
        }
    }
}

/// A response of this front end.
pub(super) type Response = hyper::Response<Body>;

/// A response for a route of axum.
pub(super) fn for_axum(response: Response) -> axum::response::Response {
    response.map(axum::body::Body::new)
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.get_mut() {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.is_empty(),
            Body::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Stream(body) => body.size_hint(),
        }
    }
}
