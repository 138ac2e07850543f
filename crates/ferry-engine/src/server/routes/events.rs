//! `GET /events`: what happened since, and what happens from now on.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ferry_api::Filters;
use ferry_api::event::Event;
use http::{HeaderMap, header};
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc};

use crate::clock;
use crate::engine::Engine;
use crate::error::HttpError;
use crate::events::{FILTER_KEYS, matches, with_legacy_fields};
use crate::server::RequestVersion;
use crate::server::hijack::channel_body;
use crate::server::params::Params;

/// Events waiting for a slow client's socket.
const QUEUE: usize = 64;
/// Record separator that RFC 7464 puts before every text.
const RECORD_SEPARATOR: u8 = 0x1e;

/// How the objects are told apart on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Json,
    NdJson,
    JsonLines,
    JsonSequence,
}

impl Framing {
    fn choose(version: RequestVersion, headers: &HeaderMap) -> Self {
        if !version.at_least(52) {
            return Self::Json;
        }
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let wants =
            |kind: &str| accept.split(',').any(|part| part.split(';').next().unwrap_or("").trim() == kind);
        match () {
            () if wants("application/json-seq") => Self::JsonSequence,
            () if wants("application/x-ndjson") => Self::NdJson,
            () if wants("application/jsonl") => Self::JsonLines,
            () => Self::Json,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::JsonLines => "application/jsonl",
            Self::JsonSequence => "application/json-seq",
        }
    }

    fn frame(self, event: &Event) -> Bytes {
        let mut line = Vec::with_capacity(256);
        if self == Self::JsonSequence {
            line.push(RECORD_SEPARATOR);
        }
        line.extend(serde_json::to_vec(event).unwrap_or_default());
        line.push(b'\n');
        line.into()
    }
}

/// `GET /events`.
pub async fn stream(
    State(engine): State<Arc<Engine>>,
    version: RequestVersion,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let filters = params.filters(FILTER_KEYS)?;
    let since = bound(&params, "since")?;
    let until = bound(&params, "until")?;
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(HttpError::bad_request("`since` time cannot be after `until` time"));
    }
    let framing = Framing::choose(version, &headers);
    let legacy = version.keeps_fields_removed_in(52);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (past, live) = engine.events.subscribe(since);
    let feed = Feed { filters, framing, legacy, sender };
    tokio::spawn(async move { feed.run(past, live, until).await });
    Ok(([(header::CONTENT_TYPE, framing.content_type())], channel_body(receiver)).into_response())
}

fn bound(params: &Params, name: &str) -> Result<Option<Timestamp>, HttpError> {
    clock::parse_bound(params.get(name).unwrap_or("")).map_err(HttpError::bad_request)
}

struct Feed {
    filters: Filters,
    framing: Framing,
    legacy: bool,
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

impl Feed {
    async fn run(
        self,
        past: Vec<Arc<Event>>,
        mut live: broadcast::Receiver<Arc<Event>>,
        until: Option<Timestamp>,
    ) {
        for event in &past {
            let late = until.is_some_and(|until| i128::from(event.time_nano) > until.as_nanosecond());
            if late || !self.send(event).await {
                return;
            }
        }
        let end = async {
            match until {
                Some(until) => tokio::time::sleep(clock::until(until)).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let received = tokio::select! {
                received = live.recv() => received,
                () = &mut end => return,
                () = self.sender.closed() => return,
            };
            match received {
                Ok(event) if self.send(&event).await => {}
                Ok(_) | Err(broadcast::error::RecvError::Closed) => return,
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    tracing::warn!(count, "an events client is too slow and lost events");
                }
            }
        }
    }

    /// False when the client is gone.
    async fn send(&self, event: &Event) -> bool {
        if !matches(&self.filters, event) {
            return true;
        }
        let frame = match self.legacy {
            true => self.framing.frame(&with_legacy_fields(event)),
            false => self.framing.frame(event),
        };
        self.sender.send(Ok(frame)).await.is_ok()
    }
}
