//! Request bodies that nobody reads to the end are taken in all the same, within limits.
//!
//! An answer may be known before the request is whole: the container of a copy is not there, the tar of a load
//! is none. To close the connection then would break the client off in the middle of its sending, and most
//! clients show that instead of the answer. So what a handler leaves of a body is read and thrown away beside
//! the answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

/// Bytes thrown away before the connection is closed after all.
const BYTES: u64 = 4 << 30;
/// How long the rest may take.
const TIME: Duration = Duration::from_secs(60);

/// A request body that is drained when it is dropped before its end.
pub struct Drained {
    body: Option<Incoming>,
    /// A client that asked whether to send its body at all, and was not told to: nothing will come.
    unasked: bool,
    runtime: Handle,
}

impl Drained {
    /// Puts itself around a request's body; must be called on the runtime.
    pub fn wrap(request: Request<Incoming>) -> Request<Drained> {
        let unasked = request.headers().contains_key(header::EXPECT);
        request.map(|body| Drained { body: Some(body), unasked, runtime: Handle::current() })
    }
}

impl Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.unasked = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if !self.unasked && !body.is_end_stream() {
            self.runtime.spawn(tokio::time::timeout(TIME, drain(body)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut left = BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
