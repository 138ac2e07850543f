//! Turning a request into a raw two-way stream (attach, exec start), as Docker's clients expect it.
//!
//! With an `Upgrade` header the answer is `101 UPGRADED` and both directions are the connection's bytes, each
//! with its own end. Without one (old clients) the answer is a `200` whose body is the output, and the
//! request's body is the input.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::listen::Connection;
use crate::error::HttpError;

/// Bytes buffered between an old client's response body and the writer.
const BODY_PIPE: usize = 64 * 1024;
/// First and longest pause between two looks whether a client has read a head.
const HEAD_PAUSE: Duration = Duration::from_micros(100);
const HEAD_PAUSE_MAX: Duration = Duration::from_millis(5);
/// What a client over a network gets to read the head.
const HEAD_MOMENT: Duration = Duration::from_millis(10);
/// How long the stream waits for that.
const HEAD_PATIENCE: Duration = Duration::from_secs(2);

/// Client's input.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Output to the client; shutting it down ends the client's read side.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// What flows over a hijacked connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Terminal: bytes as they are.
    Raw,
    /// No terminal: frames with a stream number and a length.
    Multiplexed,
}

impl Media {
    /// The content type, of which clients before 1.42 know only the raw one.
    pub fn content_type(self, knows_multiplexed: bool) -> &'static str {
        match self {
            Self::Multiplexed if knows_multiplexed => "application/vnd.docker.multiplexed-stream",
            Self::Multiplexed | Self::Raw => "application/vnd.docker.raw-stream",
        }
    }
}

/// A request that will become a stream.
pub struct Hijack {
    request: Request<Body>,
    upgrade: bool,
}

impl Hijack {
    /// Looks at what the client asked for; nothing is answered yet.
    pub fn new(request: Request<Body>) -> Self {
        let upgrade = request.headers().contains_key(header::UPGRADE);
        Self { request, upgrade }
    }

    /// Answers and hands both directions to `serve`, which runs on its own once the answer is out.
    pub fn answer<F, Served>(self, content_type: &'static str, serve: F) -> Result<Response, HttpError>
    where
        F: FnOnce(Input, Output) -> Served + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        if self.upgrade { self.upgraded(content_type, true, serve) } else { self.plain(content_type, serve) }
    }

    /// As [`Hijack::answer`], without a moment between head and stream: for Ferry's own client, which loses nothing
    /// that comes right behind the head.
    pub fn answer_at_once<F, Served>(
        self,
        content_type: &'static str,
        serve: F,
    ) -> Result<Response, HttpError>
    where
        F: FnOnce(Input, Output) -> Served + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        if self.upgrade { self.upgraded(content_type, false, serve) } else { self.plain(content_type, serve) }
    }

    fn upgraded<F, Served>(
        mut self,
        content_type: &'static str,
        head_first: bool,
        serve: F,
    ) -> Result<Response, HttpError>
    where
        F: FnOnce(Input, Output) -> Served + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let upgrade = hyper::upgrade::on(&mut self.request);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let (input, output) = both_ways(upgraded, head_first).await;
                    serve(input, output).await;
                }
                Err(error) => tracing::debug!(%error, "client left before its stream began"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        Ok(response)
    }

    fn plain<F, Served>(self, content_type: &'static str, serve: F) -> Result<Response, HttpError>
    where
        F: FnOnce(Input, Output) -> Served + Send + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let chunks =
            self.request.into_body().into_data_stream().map(|item| item.map_err(std::io::Error::other));
        let input = tokio_util::io::StreamReader::new(Box::pin(chunks));
        let (ours, theirs) = tokio::io::simplex(BODY_PIPE);
        tokio::spawn(serve(Box::new(input), Box::new(theirs)));
        let body = Body::from_stream(tokio_util::io::ReaderStream::new(ours));
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }
}

/// Both directions of a connection whose head is out.
async fn both_ways(upgraded: Upgraded, head_first: bool) -> (Input, Output) {
    match upgraded.downcast::<TokioIo<Connection>>() {
        Ok(parts) => {
            let connection = parts.io.into_inner();
            if head_first {
                head_is_read(&connection).await;
            }
            let (input, output) = tokio::io::split(connection);
            (Box::new(std::io::Cursor::new(parts.read_buf).chain(input)), Box::new(output))
        }
        Err(upgraded) => {
            let (input, output) = tokio::io::split(TokioIo::new(upgraded));
            (Box::new(input), Box::new(output))
        }
    }
}

/// Waits until the client has read the answer's head. Clients that read it through a buffer (Docker's Python SDK)
/// lose whatever of the stream comes with it, and a container's first output can be as quick as the head.
async fn head_is_read(connection: &Connection) {
    let waiting = async {
        let mut pause = HEAD_PAUSE;
        match connection.has_unread() {
            // Nobody can tell: the client gets a moment.
            None => tokio::time::sleep(HEAD_MOMENT).await,
            Some(_) => {
                while connection.has_unread() == Some(true) {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(HEAD_PAUSE_MAX);
                }
            }
        }
    };
    // A client that does not read at all is no worse off with the first bytes behind the head.
    let _ = tokio::time::timeout(HEAD_PATIENCE, waiting).await;
}

/// A streaming body fed through a channel; dropping the receiver (client gone) makes sends fail.
pub fn channel_body(receiver: tokio::sync::mpsc::Receiver<Result<Bytes, std::io::Error>>) -> Body {
    Body::from_stream(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    }))
}
