//! `/containers/{id}/exec` and `/exec/...`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ferry_api::exec::{ExecCreateRequest, ExecInspect, ExecStartRequest};
use http::StatusCode;
use http_body_util::{BodyExt, Limited};

use super::containers::window_size;
use crate::container::exec::{self, ExecError};
use crate::engine::Engine;
use crate::error::HttpError;
use crate::server::RequestVersion;
use crate::server::body::GoJson;
use crate::server::hijack::{Hijack, Media};
use crate::server::params::Params;

/// Largest body of an exec start: a few flags.
const MAX_START_BODY: usize = 64 * 1024;

type AppState = State<Arc<Engine>>;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(engine): AppState,
    Path(id): Path<String>,
    GoJson(request): GoJson<ExecCreateRequest>,
) -> Result<Response, HttpError> {
    let container = engine.containers.find(&id)?;
    let id = exec::create(&engine, &container, request)?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "Id": id }))).into_response())
}

async fn start(
    State(engine): AppState,
    Path(id): Path<String>,
    version: RequestVersion,
    request: Request,
) -> Result<Response, HttpError> {
    let (container, found) = exec::find(&engine, &id)?;
    let (parts, body) = request.into_parts();
    let bytes = Limited::new(body, MAX_START_BODY)
        .collect()
        .await
        .map_err(|error| HttpError::bad_request(format!("read request body: {error}")))?
        .to_bytes();
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    let options: ExecStartRequest =
        ferry_api::from_slice(text).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let begun = exec::begin(&engine, &container, &found, &options).await;
    if options.detach {
        begun?;
        return Ok(StatusCode::OK.into_response());
    }
    // As in Docker it is the start that says how the bytes are written, whatever the exec was made with.
    let terminal = options.tty;
    let media = if terminal { Media::Raw } else { Media::Multiplexed };
    let content_type = media.content_type(version.at_least(42));
    let hijack = Hijack::new(Request::from_parts(parts, Body::empty()));
    match begun {
        Ok(session) => {
            hijack.answer(content_type, move |input, output| session.serve_as(media, engine, input, output))
        }
        Err(error @ ExecError::Program { .. }) => {
            hijack.answer(content_type, move |_, output| exec::serve_failure(error, terminal, output))
        }
        Err(error) => Err(error.into()),
    }
}

async fn resize(
    State(engine): AppState,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, HttpError> {
    let size = window_size(&params)?;
    let (container, found) = exec::find(&engine, &id)?;
    exec::resize(&container, &found, size).await?;
    Ok(StatusCode::OK)
}

async fn inspect(
    State(engine): AppState,
    Path(id): Path<String>,
    version: RequestVersion,
) -> Result<Json<ExecInspect>, HttpError> {
    let (container, found) = exec::find(&engine, &id)?;
    let mut answer = exec::inspect(&container, &found);
    // Until Docker 28 every command that could not be started was one that "cannot be executed".
    if found.never_started() && version.precedes(48) {
        answer.exit_code = Some(126);
    }
    Ok(Json(answer))
}
