//! What containers use and may use: stats, top, update, prune, and `/system/df`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use ferry_api::container::{PruneResponse, UpdateRequest, UpdateResponse};
use http::header;
use tokio::sync::mpsc;

use crate::container::stats::{self, Sample};
use crate::container::{Container, prune, stuck, top, update};
use crate::engine::Engine;
use crate::error::HttpError;
use crate::server::body::GoJson;
use crate::server::hijack::channel_body;
use crate::server::params::Params;

/// Samples waiting for a slow client; older ones are of no use.
const QUEUE: usize = 1;

type AppState = State<Arc<Engine>>;
type Answer = Result<Response, HttpError>;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/prune", post(prune_containers))
        .route("/containers/{id}/stats", get(container_stats))
        .route("/containers/{id}/top", get(container_top))
        .route("/containers/{id}/update", post(update_container))
}

async fn container_stats(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let container = engine.containers.find(&id)?;
    if !params.flag_or("stream", true) {
        let answer = stats::once(&engine, &container, params.flag("one-shot"))
            .await
            .map_err(|error| HttpError::internal(error.to_string()))?;
        return Ok(Json(answer).into_response());
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(stream_stats(engine, container, sender));
    Ok(([(header::CONTENT_TYPE, "application/json")], channel_body(receiver)).into_response())
}

async fn stream_stats(
    engine: Arc<Engine>,
    container: Arc<Container>,
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    let mut previous: Option<Sample> = None;
    let mut moments = container.watch();
    loop {
        // A container that ended meanwhile shows as one that does not run.
        let sample = Sample::take(&engine, &container).await.ok().flatten();
        let answer = match &sample {
            Some(sample) => sample.answer(&container, previous.as_ref()),
            None => stats::stub(&container),
        };
        previous = sample;
        let Ok(mut line) = serde_json::to_vec(&answer) else { return };
        line.push(b'\n');
        if sender.send(Ok(line.into())).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(stats::INTERVAL) => {}
            () = sender.closed() => return,
            _ = moments.wait_for(|moment| moment.removed) => return,
        }
    }
}

async fn container_top(State(engine): AppState, Path(id): Path<String>, params: Params) -> Answer {
    let container = engine.containers.find(&id)?;
    let Some(link) = container.link() else {
        return Err(HttpError::conflict(format!("container {} is not running", container.id)));
    };
    let pids = stuck::answered(&container, link.processes()).await;
    let pids = pids.map_err(|error| HttpError::internal(error.to_string()))?;
    let table = top::top(&pids, params.get("ps_args").unwrap_or(""), engine.host.memory)
        .map_err(|error| HttpError::bad_request(error.to_string()))?;
    engine.events.emit("container", "top", &container.id, container.event_attributes());
    Ok(Json(table).into_response())
}

async fn update_container(
    State(engine): AppState,
    Path(id): Path<String>,
    GoJson(request): GoJson<UpdateRequest>,
) -> Result<Json<UpdateResponse>, HttpError> {
    let container = engine.containers.find(&id)?;
    let warnings = update::update(&engine, &container, request).await?;
    Ok(Json(UpdateResponse { warnings: (!warnings.is_empty()).then_some(warnings) }))
}

async fn prune_containers(State(engine): AppState, params: Params) -> Result<Json<PruneResponse>, HttpError> {
    let filters = params.filters(prune::FILTER_KEYS)?;
    Ok(Json(prune::prune(&engine, &filters).await?))
}
