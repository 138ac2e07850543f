//! A connection that became a raw two-way stream.

use http::HeaderMap;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{ReadHalf, WriteHalf};

use super::{ClientError, Response};

/// The stream of an attach or an exec. Shutting the writer down closes the process's stdin and leaves the
/// reader open.
pub struct Hijacked {
    /// Output, framed when [`Hijacked::multiplexed`].
    pub reader: ReadHalf<TokioIo<Upgraded>>,
    /// Input.
    pub writer: WriteHalf<TokioIo<Upgraded>>,
    /// Did the engine announce frames? (None: it did not say.)
    pub multiplexed: Option<bool>,
    /// The headers of the answer.
    pub headers: HeaderMap,
}

impl Hijacked {
    pub(super) async fn from_response(response: Response) -> Result<Hijacked, ClientError> {
        let multiplexed = response.header("content-type").and_then(|kind| match kind {
            "application/vnd.docker.multiplexed-stream" => Some(true),
            _ => None,
        });
        let response = response.into_http();
        let headers = response.headers().clone();
        let upgraded = hyper::upgrade::on(response).await.map_err(ClientError::Body)?;
        let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
        Ok(Hijacked { reader, writer, multiplexed, headers })
    }
}
