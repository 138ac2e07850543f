//! `/volumes/...`: create, list, inspect, remove, prune.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ferry_api::Filters;
use ferry_api::volume::{CreateRequest, ListResponse, PruneResponse, Volume as Answer};
use ferry_store::{Volume, VolumeError, VolumeSpec};
use http::StatusCode;

use crate::container::list::NamePattern;
use crate::container::volumes::{users, users_by_volume};
use crate::engine::Engine;
use crate::error::{HttpError, HttpStatus};
use crate::server::RequestVersion;
use crate::server::body::GoJson;
use crate::server::params::Params;

const LIST_KEYS: &[&str] = &["dangling", "driver", "label", "name"];
const PRUNE_KEYS: &[&str] = &["all", "label", "label!"];

type AppState = State<Arc<Engine>>;

impl HttpStatus for VolumeError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) | Self::NoSnapshot { .. } | Self::Driver(_) => StatusCode::NOT_FOUND,
            Self::Name(_)
            | Self::NameLength { .. }
            | Self::Option { .. }
            | Self::MissingOption { .. }
            | Self::NoQuota(_)
            | Self::Elsewhere { .. } => StatusCode::BAD_REQUEST,
            Self::SnapshotExists { .. } | Self::Exists(_) | Self::NotEmpty(_) | Self::Mounted(_) => {
                StatusCode::CONFLICT
            }
            Self::Io(_) | Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).put(update).delete(remove))
}

/// A volume as the API shows it.
pub fn view(volume: &Volume) -> Answer {
    Answer {
        created_at: seconds(&volume.created),
        driver: volume.driver.clone(),
        labels: Some(volume.labels.clone()).filter(|labels| !labels.is_empty()),
        mountpoint: volume.mountpoint.display().to_string(),
        name: volume.name.clone(),
        options: Some(volume.options.clone()).filter(|options| !options.is_empty()),
        scope: "local".to_owned(),
        ..Answer::default()
    }
}

/// Docker tells a volume's time in whole seconds.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

async fn list(State(engine): AppState, params: Params) -> Result<Json<ListResponse>, HttpError> {
    let filters = params.filters(LIST_KEYS)?;
    let dangling = match filters.contains("dangling") {
        true => Some(filters.bool_value("dangling", false)?),
        false => None,
    };
    let names: Vec<NamePattern> = filters.get("name").map(NamePattern::new).collect::<Result<_, _>>()?;
    let wanted = |volume: &&Arc<Volume>| {
        let by_name = names.is_empty() || names.iter().any(|pattern| pattern.matches(&volume.name));
        by_name
            && filters.exact_match("driver", &volume.driver)
            && filters.match_labels("label", &volume.labels)
            && dangling.is_none_or(|dangling| dangling == users(&engine, &volume.name).is_empty())
    };
    let volumes = engine.store.volumes().list().iter().filter(wanted).map(|volume| view(volume)).collect();
    Ok(Json(ListResponse { volumes: Some(volumes), warnings: None }))
}

async fn create(
    State(engine): AppState,
    GoJson(request): GoJson<CreateRequest>,
) -> Result<Response, HttpError> {
    let volume = tokio::task::spawn_blocking(move || {
        let known = engine.store.volumes().get(&request.name).is_ok();
        let volume = engine.store.volumes().create(VolumeSpec {
            name: Some(request.name),
            driver: Some(request.driver),
            options: request.driver_opts.unwrap_or_default(),
            labels: request.labels.unwrap_or_default(),
        })?;
        if !known {
            emit(&engine, "create", &volume);
        }
        Ok::<_, VolumeError>(volume)
    })
    .await
    .map_err(|error| HttpError::internal(error.to_string()))??;
    Ok((StatusCode::CREATED, Json(view(&volume))).into_response())
}

pub(super) fn emit(engine: &Engine, action: &str, volume: &Volume) {
    let attributes = BTreeMap::from([("driver".to_owned(), volume.driver.clone())]);
    engine.events.emit("volume", action, &volume.name, attributes);
}

async fn inspect(State(engine): AppState, Path(name): Path<String>) -> Result<Json<Answer>, HttpError> {
    let volume = engine.store.volumes().get(&name)?;
    Ok(Json(view(&volume)))
}

async fn remove(
    State(engine): AppState,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, HttpError> {
    let force = params.flag("force");
    let removed = tokio::task::spawn_blocking(move || remove_unused(&engine, &name))
        .await
        .map_err(|error| HttpError::internal(error.to_string()))?;
    match removed {
        Err(error) if force && error.status == StatusCode::NOT_FOUND => {}
        other => other?,
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn remove_unused(engine: &Engine, name: &str) -> Result<(), HttpError> {
    let volume = engine.store.volumes().get(name)?;
    engine.live_volumes.while_none_are_claimed(|wanted| {
        let users: Vec<String> = users(engine, name).iter().map(|container| container.id.clone()).collect();
        if !users.is_empty() || wanted(name) {
            let users = users.join(", ");
            return Err(HttpError::conflict(format!("remove {name}: volume is in use - [{users}]")));
        }
        engine.live_volumes.release_unused(&volume);
        Ok(engine.store.volumes().remove(name)?)
    })?;
    engine.live_volumes.forget(name);
    emit(engine, "destroy", &volume);
    Ok(())
}

/// Only volumes of a cluster can be changed, and there are none: Docker's answers for that.
async fn update(State(engine): AppState, Path(name): Path<String>) -> Result<Response, HttpError> {
    engine.store.volumes().get(&name)?;
    Err(HttpError::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

fn labels_fit(filters: &Filters, volume: &Volume) -> bool {
    let excluded = filters.get("label!").any(|label| {
        let mut one = Filters::default();
        one.add("label", label);
        one.match_labels("label", &volume.labels)
    });
    filters.match_labels("label", &volume.labels) && !excluded
}

async fn prune(
    State(engine): AppState,
    version: RequestVersion,
    params: Params,
) -> Result<Json<PruneResponse>, HttpError> {
    let filters = params.filters(PRUNE_KEYS)?;
    // Since 1.42 only volumes that nobody named go unless all are asked for.
    let all = filters.bool_value("all", !version.at_least(42))?;
    let pruned = tokio::task::spawn_blocking(move || prune_unused(&engine, &filters, all))
        .await
        .map_err(|error| HttpError::internal(error.to_string()))??;
    Ok(Json(pruned))
}

fn prune_unused(engine: &Engine, filters: &Filters, all: bool) -> Result<PruneResponse, HttpError> {
    let mut chosen: Vec<(Arc<Volume>, u64)> = Vec::new();
    let users = users_by_volume(engine);
    for volume in engine.store.volumes().list() {
        let free = !users.contains_key(&volume.name);
        if free && (all || volume.is_anonymous()) && labels_fit(filters, &volume) {
            let size = engine.store.volumes().measure(&volume.name).unwrap_or(0);
            chosen.push((volume, size));
        }
    }
    // One durable write for all; while it is made, no new container can begin to want one of them.
    engine.live_volumes.while_none_are_claimed(|wanted| {
        let users = users_by_volume(engine);
        chosen.retain(|(volume, _)| !users.contains_key(&volume.name) && !wanted(&volume.name));
        chosen.iter().for_each(|(volume, _)| engine.live_volumes.release_unused(volume));
        let names: Vec<String> = chosen.iter().map(|(volume, _)| volume.name.clone()).collect();
        engine.store.volumes().remove_all(&names)
    })?;
    for (volume, _) in &chosen {
        engine.live_volumes.forget(&volume.name);
        emit(engine, "destroy", volume);
    }
    let answer = PruneResponse {
        space_reclaimed: chosen.iter().map(|(_, size)| size).sum(),
        volumes_deleted: Some(chosen.into_iter().map(|(volume, _)| volume.name.clone()).collect()),
    };
    let attributes = BTreeMap::from([("reclaimed".to_owned(), answer.space_reclaimed.to_string())]);
    engine.events.emit("volume", "prune", "", attributes);
    Ok(answer)
}
