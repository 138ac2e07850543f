//! `GET /containers/{id}/attach/ws`: an attachment for browsers, whose sockets carry messages instead of a stream.
//!
//! As Docker does, all output is sent as it is, without the frames of the streams: a browser shows both alike.

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use ferry_api::multiplex::Splitter;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, SimplexStream, WriteHalf};

use super::containers::attach_request;
use crate::container::attach::Session;
use crate::engine::Engine;
use crate::error::HttpError;
use crate::server::RequestVersion;
use crate::server::params::Params;

/// Bytes under way in one direction.
const PIPE: usize = 64 * 1024;
/// Largest message taken in and sent.
const MESSAGE_MAX: usize = 1024 * 1024;
const CHUNK: usize = 32 * 1024;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/containers/{id}/attach/ws", get(attach))
}

async fn attach(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    version: RequestVersion,
    params: Params,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, HttpError> {
    let container = engine.containers.find(&id)?;
    let wanted = attach_request(&params)?;
    let upgrade = upgrade.map_err(|error| HttpError::bad_request(error.body_text()))?;
    let terminal = container.lock().record.config.tty;
    let session = Session::prepare(&container, &wanted)?;
    engine.events.emit("container", "attach", &container.id, container.event_attributes());
    // Before 1.28 messages were text.
    let binary = version.version.at_least(28);
    Ok(upgrade.max_message_size(MESSAGE_MAX).on_upgrade(move |socket| {
        let bridge = Bridge { framed: !terminal, binary };
        bridge.serve(engine, session, socket)
    }))
}

/// Between messages and streams.
struct Bridge {
    /// The session's output is in frames.
    framed: bool,
    binary: bool,
}

impl Bridge {
    async fn serve(self, engine: Arc<Engine>, session: Session, socket: WebSocket) {
        let (messages_out, messages_in) = socket.split();
        let (input, to_session) = tokio::io::simplex(PIPE);
        let (from_session, output) = tokio::io::simplex(PIPE);
        let sending = self.send(from_session, messages_out);
        let serving = session.serve(engine, Box::new(input), Box::new(output));
        tokio::pin!(sending, serving);
        tokio::select! {
            // The client is gone; the container's input stays open, as with any other client that leaves.
            () = receive(messages_in, to_session) => {}
            () = async { tokio::join!(&mut sending, &mut serving); } => {}
        }
    }

    async fn send(
        self,
        mut output: tokio::io::ReadHalf<SimplexStream>,
        mut messages: SplitSink<WebSocket, Message>,
    ) {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match output.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let mut plain = Vec::with_capacity(count);
            match self.framed {
                true if splitter
                    .feed(&buffer[..count], |_, bytes| plain.extend_from_slice(bytes))
                    .is_err() =>
                {
                    break;
                }
                true => {}
                false => plain.extend_from_slice(&buffer[..count]),
            }
            if !plain.is_empty() && messages.send(self.message(plain)).await.is_err() {
                return;
            }
        }
        // The client may be gone already.
        let _ = messages.send(Message::Close(None)).await;
    }

    fn message(&self, bytes: Vec<u8>) -> Message {
        match self.binary {
            true => Message::Binary(Bytes::from(bytes)),
            false => Message::Text(String::from_utf8_lossy(&bytes).into_owned().into()),
        }
    }
}

/// Hands the client's messages to the container until the client goes.
async fn receive(mut messages: SplitStream<WebSocket>, mut to_session: WriteHalf<SimplexStream>) {
    while let Some(Ok(message)) = messages.next().await {
        let written = match message {
            Message::Binary(bytes) => to_session.write_all(&bytes).await,
            Message::Text(text) => to_session.write_all(text.as_bytes()).await,
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => Ok(()),
        };
        if written.is_err() {
            // The container reads no more; its output goes on until the client leaves.
            continue;
        }
    }
}
