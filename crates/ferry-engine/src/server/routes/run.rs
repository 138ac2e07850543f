//! `POST /ferry/run`: a whole `run` in one call, for Ferry's own command line; see `ferry_api::types::run`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use ferry_api::container::WaitResponse;
use ferry_api::run::{CONTAINER, RunEnd, RunResponse, WARNINGS};
use http::{HeaderValue, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::containers::{Condition, attach_request, create_request, finished, wait};
use crate::container::attach::Session;
use crate::container::start::{self, StartError, Started};
use crate::container::{Container, create, signal, stop};
use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::server::body;
use crate::server::hijack::{Hijack, Media};
use crate::server::params::Params;
use crate::spec::mounts::Caller;

/// How long the head waits for the start, which as a rule takes some ten milliseconds.
const HEAD_WAITS: Duration = Duration::from_millis(50);

/// The route of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/ferry/run", post(run))
}

async fn run(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Option<Caller>>,
    params: Params,
    request: Request,
) -> Result<Response, HttpError> {
    let (head, body) = request.into_parts();
    let asked = create_request(&engine, &params, body::read(&head.headers, body).await?)?;
    let mut wanted = attach_request(&params)?;
    wanted.stream = wanted.stdin || wanted.stdout || wanted.stderr;
    if wanted.stream && asked.config.tty {
        return Err(HttpError::bad_request(
            "a container with a terminal is attached to by /containers/ID/attach",
        ));
    }
    let created = create::create(&engine, params.get("name"), asked, caller).await?;
    let container = engine.containers.find(&created.id)?;
    if !wanted.stream {
        let start = begin(&engine, &container, watch::Sender::default());
        let start_error = started(&container, start).await?;
        let answer = RunResponse { id: created.id, warnings: created.warnings, start_error };
        return Ok((StatusCode::CREATED, Json(answer)).into_response());
    }
    let session = Session::prepare(&container, &wanted)?;
    engine.events.emit("container", "attach", &container.id, container.event_attributes());
    let (last_word, mut over) = begin_and_follow(&engine, Arc::clone(&container));
    let orphan = Orphan(Some((Arc::clone(&engine), container, over.clone())));
    // With nothing to read yet the client leaves the processors to the start.
    let _ = tokio::time::timeout(HEAD_WAITS, over.changed()).await;
    let hijack = Hijack::new(Request::from_parts(head, Body::empty()));
    let kind = Media::Multiplexed.content_type(true);
    let mut answer = hijack.answer_at_once(kind, move |input, output| {
        orphan.adopted();
        session.with_last_word(last_word).serve(engine, input, output)
    })?;
    let headers = answer.headers_mut();
    headers.insert(CONTAINER, header(&created.id)?);
    headers.insert(WARNINGS, header(&ascii_json(&created.warnings))?);
    Ok(answer)
}

/// A container whose client has had no answer yet: where it never gets one it left before it knew of any container, so
/// that nobody could end it.
struct Orphan(Option<(Arc<Engine>, Arc<Container>, watch::Receiver<()>)>);

impl Orphan {
    fn adopted(mut self) {
        self.0 = None;
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let (Some(left), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        let (engine, container, mut start_over) = left;
        runtime.spawn(async move {
            // The start may not even have begun; its task always ends, and says so or drops its end.
            let _ = start_over.changed().await;
            let id = container.id.clone();
            if let Err(error) = stop::kill(&engine, &container, &id, signal::KILL).await {
                tracing::debug!(container = %id, %error, "its client left before its start");
            }
        });
    }
}

type Start = JoinHandle<Result<Started, StartError>>;

/// Starts on a task of its own: a client that leaves must not leave a start half-way.
fn begin(engine: &Arc<Engine>, container: &Arc<Container>, over: watch::Sender<()>) -> Start {
    let (engine, container) = (Arc::clone(engine), Arc::clone(container));
    tokio::spawn(async move {
        let result = start::start(&engine, &container).await;
        over.send_replace(());
        result
    })
}

/// Why the start failed; a container that removes itself is gone by then, and its name free.
async fn started(container: &Arc<Container>, start: Start) -> Result<Option<String>, HttpError> {
    let gone = container.lock().record.host_config.auto_remove;
    let removed = gone.then(|| wait(Arc::clone(container), container.watch(), Condition::Removed));
    let Err(error) = finished(start.await)? else { return Ok(None) };
    if let Some(removed) = removed {
        removed.await;
    }
    Ok(Some(error_chain(&error)))
}

/// Starts; gives the last frame, which says how the run ended, and what changes when the start is over.
fn begin_and_follow(
    engine: &Arc<Engine>,
    container: Arc<Container>,
) -> (impl Future<Output = Vec<u8>> + Send + 'static, watch::Receiver<()>) {
    let removes_itself = container.lock().record.host_config.auto_remove;
    let condition = if removes_itself { Condition::Removed } else { Condition::NextExit };
    let ended = wait(Arc::clone(&container), container.watch(), condition);
    let (over, started_or_not) = watch::channel(());
    let start = begin(engine, &container, over);
    let last_word = async move {
        let end = match started(&container, start).await {
            Ok(None) => RunEnd { end: Some(ended.await), start_error: None },
            Ok(start_error) => RunEnd { end: None, start_error },
            Err(error) => RunEnd { end: Some(lost(&error)), start_error: None },
        };
        serde_json::to_vec(&end).unwrap_or_default()
    };
    (last_word, started_or_not)
}

fn lost(error: &HttpError) -> WaitResponse {
    let error = ferry_api::container::WaitError { message: error.message.clone() };
    WaitResponse { status_code: -1, error: Some(error) }
}

fn header(text: &str) -> Result<HeaderValue, HttpError> {
    HeaderValue::from_str(text).map_err(|error| HttpError::internal(error.to_string()))
}

/// JSON whose other characters are escaped, as headers want it.
fn ascii_json(texts: &[String]) -> String {
    let json = serde_json::to_string(texts).unwrap_or_default();
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && !character.is_ascii_control() {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}
