//! `/containers/...`: the verbs of containers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use ferry_api::container::{CreateRequest, Inspect, Summary, WaitError, WaitResponse};
use ferry_shim::protocol::WindowSize;
use http::{StatusCode, header};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::clock;
use crate::container::attach::{AttachRequest, Session};
use crate::container::create;
use crate::container::detach_keys::DetachKeys;
use crate::container::logs::{Cursor, LogRequest};
use crate::container::remove::{self, RemoveOptions};
use crate::container::start::{self, Started};
use crate::container::state::Status;
use crate::container::{Container, Moment, inspect, list, rename, restart, signal, stop, stuck};
use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::network;
use crate::server::RequestVersion;
use crate::server::body::GoJson;
use crate::server::hijack::{Hijack, Media, channel_body};
use crate::server::params::Params;
use crate::spec::mounts::Caller;

/// Pieces of a log on their way to a client.
const LOG_QUEUE: usize = 4;

type AppState = State<Arc<Engine>>;
type Answer = Result<Response, HttpError>;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/json", get(list_containers))
        .route("/containers/create", post(create_container))
        .route("/containers/{id}/json", get(inspect_container))
        .route("/containers/{id}/start", post(start_container))
        .route("/containers/{id}/checkpoints", get(no_checkpoints).post(no_checkpoints))
        .route("/containers/{id}/checkpoints/{name}", delete(no_checkpoints))
        .route("/ferry/containers/{id}/take-ports", post(take_ports))
        .route("/containers/{id}/stop", post(stop_container))
        .route("/containers/{id}/restart", post(restart_container))
        .route("/containers/{id}/kill", post(kill_container))
        .route("/containers/{id}/pause", post(pause_container))
        .route("/containers/{id}/unpause", post(unpause_container))
        .route("/containers/{id}/rename", post(rename_container))
        .route("/containers/{id}/wait", post(wait_container))
        .route("/containers/{id}/resize", post(resize_container))
        .route("/containers/{id}/logs", get(container_logs))
        .route("/containers/{id}/attach", post(attach_container))
        .route("/containers/{id}", delete(remove_container))
        .route("/containers/{id}/{alias}", delete(remove_link))
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

async fn list_containers(State(engine): AppState, params: Params) -> Result<Response, HttpError> {
    let limit = params
        .number::<i64>("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let request =
        list::ListRequest { all: params.flag("all"), limit, filters: params.filters(list::FILTER_KEYS)? };
    let containers = list::list(&engine, &request)?;
    let mut maker = list::Lines::new(&engine);
    if params.flag("ferry-brief") {
        let list = maker.brief(&containers).map_err(|error| HttpError::internal(error.to_string()))?;
        return Ok(([(header::CONTENT_TYPE, "application/json")], list).into_response());
    }
    let mut lines: Vec<Summary> = containers.iter().map(|container| maker.line(container)).collect();
    if params.flag("size") {
        for (line, container) in lines.iter_mut().zip(&containers) {
            (line.size_rw, line.size_root_fs) = sizes(&engine, container).await?;
        }
    }
    Ok(Json(lines).into_response())
}

/// Bytes of a container's writable layer, and with its image.
async fn sizes(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
) -> Result<(Option<i64>, Option<i64>), HttpError> {
    let (store, id) = (Arc::clone(&engine.store), container.id.clone());
    let image = container.lock().record.image_id.clone();
    let measured = tokio::task::spawn_blocking(move || {
        let writable = store.writable_size(&id)?;
        let image = store.images().resolve(&image).map_or(0, |image| image.size);
        Ok::<_, ferry_store::IoError>((writable, writable + image))
    });
    let (writable, whole) =
        finished(measured.await)?.map_err(|error| HttpError::internal(error_chain(&error)))?;
    Ok((i64::try_from(writable).ok(), i64::try_from(whole).ok()))
}

async fn create_container(
    State(engine): AppState,
    Extension(caller): Extension<Option<Caller>>,
    params: Params,
    GoJson(body): GoJson<Value>,
) -> Answer {
    let request = create_request(&engine, &params, body)?;
    let answer = create::create(&engine, params.get("name"), request, caller).await?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// What the body of a creation asks for, of an image for the platform of the parameters.
pub(super) fn create_request(
    engine: &Engine,
    params: &Params,
    body: Value,
) -> Result<CreateRequest, HttpError> {
    // Docker's Python SDK has it beside the host's settings, where it was in the beginning.
    let runtime = body.get("Runtime").and_then(Value::as_str).map(str::to_owned);
    let mut request: CreateRequest =
        CreateRequest::from_value(body).map_err(|error| HttpError::bad_request(error.to_string()))?;
    if let Some(runtime) = runtime {
        let host_config = request.host_config.get_or_insert_default();
        if host_config.runtime.is_empty() {
            host_config.runtime = runtime;
        }
    }
    // Where the image is not there at all, the creation says so.
    if let Ok(image) = engine.store.images().resolve(&request.config.image) {
        let found = super::images::suits(engine, &image, &request.config.image, params)?;
        // Another one of those that the name stands for goes by its id.
        if found.id != image.id {
            request.config.image = found.id.to_string();
        }
    }
    Ok(request)
}

async fn inspect_container(
    State(engine): AppState,
    Path(id): Path<String>,
    version: RequestVersion,
    params: Params,
) -> Result<Json<Inspect>, HttpError> {
    let container = engine.containers.find(&id)?;
    let mut answer = inspect::inspect(&engine, &container, version.keeps_fields_removed_in(52));
    if params.flag("size") {
        (answer.size_rw, answer.size_root_fs) = sizes(&engine, &container).await?;
    }
    Ok(Json(answer))
}

/// Docker has checkpoints as an experiment, through CRIU.
async fn no_checkpoints(State(engine): AppState, params: axum::extract::RawPathParams) -> HttpError {
    let id = params.iter().find(|(name, _)| *name == "id").map_or("", |(_, id)| id);
    match engine.containers.find(id) {
        Ok(_) => HttpError::not_implemented(
            "checkpoints are not had: this engine does not drive CRIU; keep a container's files with commit, and its data with volume snapshot",
        ),
        Err(error) => error.into(),
    }
}

async fn start_container(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    DetachKeys::parse(params.get("detachKeys").unwrap_or(""))
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    let container = engine.containers.find(&id)?;
    container.lock().ports_come_later = params.get("ports") == Some("later");
    // On its own task: a client that leaves must not leave a start half-way.
    let started = tokio::spawn(async move { start::start(&engine, &container).await });
    match finished(started.await)?? {
        Started::Now => Ok(no_content()),
        Started::Already => Err(HttpError::not_modified()),
    }
}

/// Ferry's own: the ports that another running container has published lead to this one from now on.
async fn take_ports(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let container = engine.containers.find(&id)?;
    let from = params.get("from").ok_or_else(|| HttpError::bad_request("`from` names no container"))?;
    let giver = engine.containers.find(from)?;
    let taken = tokio::spawn(async move { network::take_ports(&engine, &giver, &container).await });
    finished(taken.await)??;
    Ok(no_content())
}

pub(super) fn finished<T>(joined: Result<T, tokio::task::JoinError>) -> Result<T, HttpError> {
    joined.map_err(|error| HttpError::internal(format!("the request's task ended early: {error}")))
}

/// `signal` and `t` of stop and restart.
fn stop_parameters(params: &Params) -> Result<(Option<i32>, Option<i64>), HttpError> {
    let signal = params.get("signal").map(stop::parse_signal).transpose()?;
    Ok((signal, params.number("t")?))
}

async fn stop_container(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let (signal, timeout) = stop_parameters(&params)?;
    let container = engine.containers.find(&id)?;
    // On its own task: closing the request does not take a stop back.
    let stopping = tokio::spawn(async move { stop::stop(&engine, &container, signal, timeout).await });
    if finished(stopping.await)? { Ok(no_content()) } else { Err(HttpError::not_modified()) }
}

async fn restart_container(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let (signal, timeout) = stop_parameters(&params)?;
    let container = engine.containers.find(&id)?;
    let restarting =
        tokio::spawn(async move { restart::restart(&engine, &container, signal, timeout).await });
    finished(restarting.await)??;
    Ok(no_content())
}

async fn kill_container(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let signal = params.get("signal").map(stop::parse_signal).transpose()?.unwrap_or(signal::KILL);
    let container = engine.containers.find(&id)?;
    let killing = tokio::spawn(async move { stop::kill(&engine, &container, &id, signal).await });
    finished(killing.await)??;
    Ok(no_content())
}

async fn pause_container(State(engine): AppState, Path(id): Path<String>) -> Answer {
    stop::pause(&engine, &engine.containers.find(&id)?).await?;
    Ok(no_content())
}

async fn unpause_container(State(engine): AppState, Path(id): Path<String>) -> Answer {
    stop::unpause(&engine, &engine.containers.find(&id)?).await?;
    Ok(no_content())
}

async fn rename_container(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let container = engine.containers.find(&id)?;
    rename::rename(&engine, &container, params.get("name").unwrap_or("")).await?;
    Ok(no_content())
}

async fn remove_container(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let options = RemoveOptions { force: params.flag("force"), volumes: params.flag("v") };
    let container = engine.containers.find(&id)?;
    let removing = tokio::spawn(async move { remove::remove(&engine, &container, options).await });
    finished(removing.await)??;
    Ok(no_content())
}

/// `DELETE /containers/CONTAINER/ALIAS?link=1`: the name a linked container has there goes, both containers stay.
async fn remove_link(
    State(engine): AppState,
    Path((id, alias)): Path<(String, String)>,
    params: Params,
) -> Answer {
    if !params.flag("link") {
        return Err(HttpError::not_found(format!("No such container: {id}/{alias}")));
    }
    let container = engine.containers.find(&id)?;
    if !container.unlink(&alias) {
        return Err(HttpError::not_found(format!("Could not get parent for: {id}: no link {alias}")));
    }
    container.persist(&engine.store, false).map_err(|error| HttpError::internal(error_chain(&error)))?;
    Ok(no_content())
}

async fn resize_container(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let size = window_size(&params)?;
    let container = engine.containers.find(&id)?;
    let Some(link) = container.link() else {
        return Err(HttpError::conflict(format!("container {} is not running", container.id)));
    };
    let resized = stuck::answered(&container, link.resize(None, size)).await;
    resized.map_err(|error| HttpError::internal(error.to_string()))?;
    let mut attributes = container.event_attributes();
    attributes.insert("height".into(), size.rows.to_string());
    attributes.insert("width".into(), size.cols.to_string());
    engine.events.emit("container", "resize", &container.id, attributes);
    Ok(StatusCode::OK.into_response())
}

/// `h` and `w` of a resize.
pub fn window_size(params: &Params) -> Result<WindowSize, HttpError> {
    let side = |name: &str| {
        let value: Option<u16> = params.number(name)?;
        value.ok_or_else(|| HttpError::bad_request(format!("missing parameter {name}")))
    };
    Ok(WindowSize { rows: side("h")?, cols: side("w")? })
}

/// What a wait waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// It does not run.
    NotRunning,
    /// The end of a run.
    NextExit,
    /// It is gone.
    Removed,
}

async fn wait_container(
    State(engine): AppState,
    Path(id): Path<String>,
    version: RequestVersion,
    params: Params,
) -> Answer {
    let condition = match params.get("condition") {
        None | Some("not-running") => Condition::NotRunning,
        Some("next-exit") => Condition::NextExit,
        Some("removed") => Condition::Removed,
        Some(other) => return Err(HttpError::bad_request(format!("invalid condition: {other:?}"))),
    };
    let container = engine.containers.find(&id)?;
    // Registered before the head of the answer is out: the client starts the container when it has seen it.
    let moments = container.watch();
    let waiting = wait(container, moments, condition);
    if !version.at_least(30) {
        return Ok(Json(waiting.await).into_response());
    }
    let body = Body::from_stream(futures_util::stream::once(async move {
        let answer = waiting.await;
        serde_json::to_vec(&answer).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        })
    }));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Waits for a container; registered when this returns.
pub(super) fn wait(
    container: Arc<Container>,
    mut moments: tokio::sync::watch::Receiver<Moment>,
    condition: Condition,
) -> impl Future<Output = WaitResponse> + Send + 'static {
    let exits = moments.borrow_and_update().exits;
    async move {
        let reached = |moment: &Moment| match condition {
            // The end of a run is an end, even where a restart policy begins the next one.
            Condition::NotRunning => {
                moment.exits > exits
                    || !matches!(moment.status, Status::Running | Status::Paused | Status::Restarting)
            }
            Condition::NextExit => moment.exits > exits || moment.removed,
            Condition::Removed => moment.removed || moment.removal_error.is_some(),
        };
        let outcome = moments.wait_for(reached).await.map(|moment| moment.clone());
        drop(container);
        match outcome {
            Ok(moment) => WaitResponse {
                status_code: i64::from(moment.exit_code),
                error: moment.removal_error.map(|message| WaitError { message }),
            },
            Err(_) => WaitResponse {
                status_code: -1,
                error: Some(WaitError { message: "the container went away".into() }),
            },
        }
    }
}

async fn container_logs(
    State(engine): AppState,
    Path(id): Path<String>,
    version: RequestVersion,
    params: Params,
) -> Answer {
    let container = engine.containers.find(&id)?;
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    if !stdout && !stderr {
        return Err(HttpError::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let bound = |name: &str| {
        clock::parse_bound(params.get(name).unwrap_or(""))
            .map_err(|error| HttpError::bad_request(format!("invalid value for {name:?}: {error}")))
    };
    let request = LogRequest {
        stdout,
        stderr,
        // A tail that is no number means everything, as in Docker.
        tail: params.get("tail").and_then(|text| text.parse().ok()),
        since: bound("since")?,
        until: bound("until")?,
        follow: params.flag("follow") && container.status().has_process(),
        timestamps: params.flag("timestamps"),
        details: params.flag("details"),
        // Clients take a frame for a line; ferry's own, which do not, say so.
        frame_each: params.get("frames") != Some("shared"),
    };
    let media = if container.lock().record.config.tty { Media::Raw } else { Media::Multiplexed };
    let cursor = Cursor::open(&container, &request)?;
    let (sender, receiver) = mpsc::channel(LOG_QUEUE);
    tokio::spawn(send_log(cursor, sender));
    let content_type = media.content_type(version.at_least(42));
    Ok(([(header::CONTENT_TYPE, content_type)], channel_body(receiver)).into_response())
}

async fn send_log(mut cursor: Cursor, sender: mpsc::Sender<Result<Bytes, std::io::Error>>) {
    loop {
        let piece = tokio::select! {
            piece = cursor.next() => piece,
            () = sender.closed() => return,
        };
        let item = match piece {
            Ok(Some(chunk)) => Ok(Bytes::from(chunk)),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let failed = item.is_err();
        if sender.send(item).await.is_err() || failed {
            return;
        }
    }
}

/// What the parameters of an attachment ask for.
pub fn attach_request(params: &Params) -> Result<AttachRequest, HttpError> {
    let detach_keys = DetachKeys::parse(params.get("detachKeys").unwrap_or(""))
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    Ok(AttachRequest {
        logs: params.flag("logs"),
        stream: params.flag("stream"),
        stdin: params.flag("stdin"),
        stdout: params.flag("stdout"),
        stderr: params.flag("stderr"),
        detach_keys,
    })
}

async fn attach_container(
    State(engine): AppState,
    Path(id): Path<String>,
    version: RequestVersion,
    params: Params,
    request: Request,
) -> Answer {
    let container = engine.containers.find(&id)?;
    let wanted = attach_request(&params)?;
    let media = if container.lock().record.config.tty { Media::Raw } else { Media::Multiplexed };
    let session = Session::prepare(&container, &wanted)?;
    engine.events.emit("container", "attach", &container.id, container.event_attributes());
    let content_type = media.content_type(version.at_least(42));
    Hijack::new(request).answer(content_type, move |input, output| session.serve(engine, input, output))
}
