//! `/ferry/image/explore` and `/ferry/image/diff`: what is in images, a JSON document per line as it is found.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use ferry_store::explore::ExploreError;
use futures_util::stream;
use http::header;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::server::params::Params;

/// Wasted paths named where nobody says how many.
const WASTED_PATHS: usize = 10;
/// Bytes of lines that go together.
const PIECE: usize = 32 << 10;
/// Pieces that wait for a slow client; then the walk waits.
const PIECES: usize = 4;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/ferry/image/explore", get(explore)).route("/ferry/image/diff", get(diff))
}

async fn explore(State(engine): State<Arc<Engine>>, params: Params) -> Result<Response, HttpError> {
    let image = engine.store.images().resolve(params.get("name").unwrap_or_default())?;
    let most = params.number::<usize>("wasted")?.unwrap_or(WASTED_PATHS);
    let files = params.flag("files");
    Ok(lines(move |out| {
        let listener = |file| if files { out.line(&json!({ "File": file })) } else { out.check() };
        let explored = engine.store.explore(&image, most, listener)?;
        out.line(&json!({ "Explored": explored })).map_err(ExploreError::Listener)
    }))
}

async fn diff(State(engine): State<Arc<Engine>>, params: Params) -> Result<Response, HttpError> {
    let named = |key| engine.store.images().resolve(params.get(key).unwrap_or_default());
    let (first, second) = (named("first")?, named("second")?);
    Ok(lines(move |out| {
        engine.store.compare(&first, &second, |change| out.line(&json!({ "Change": change })))
    }))
}

/// Lines on their way to a client.
struct Lines {
    sender: mpsc::Sender<Bytes>,
    waiting: Vec<u8>,
}

impl Lines {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.waiting, value)?;
        self.waiting.push(b'\n');
        if self.waiting.len() >= PIECE { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = Bytes::from(std::mem::take(&mut self.waiting));
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Ends the walk where the client is gone.
    fn check(&self) -> io::Result<()> {
        if self.sender.is_closed() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// An answer that work on a thread of its own writes. An error is its last line.
fn lines(work: impl FnOnce(&mut Lines) -> Result<(), ExploreError> + Send + 'static) -> Response {
    let (sender, mut receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut out = Lines { sender, waiting: Vec::new() };
        let told = match work(&mut out) {
            Ok(()) => Ok(()),
            Err(error) => out.line(&json!({ "Error": error_chain(&error) })),
        };
        if let Err(error) = told.and_then(|()| out.send()) {
            tracing::debug!(%error, "the client went away");
        }
    });
    let pieces = stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|piece| piece.map(Ok::<_, io::Error>))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response()
}
