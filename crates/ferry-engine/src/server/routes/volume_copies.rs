//! `/ferry/volumes/...`: snapshots, restore, clone and backup of volumes. Ferry's own.
//!
//! Every verb runs on a task of its own: a client that leaves must not leave a container frozen.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use ferry_api::volume::{CloneRequest, RestoreRequest, Snapshot, SnapshotRequest};
use ferry_store::pack::{PackOptions, Root, pack};
use ferry_store::{VolumeError, VolumeSnapshot};
use http::{StatusCode, header};

use crate::container::state::Status;
use crate::container::volumes::users;
use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::server::body::GoJson;
use crate::server::bridge::BodyWriter;
use crate::spec::mounts::Caller;
use crate::volume::{FreezeError, freeze_writers};

use super::volumes::{emit, view};

type AppState = State<Arc<Engine>>;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/ferry/volumes/{name}/snapshots", get(list).post(snapshot))
        .route("/ferry/volumes/{name}/snapshots/{snapshot}", delete(remove))
        .route("/ferry/volumes/{name}/restore", post(restore))
        .route("/ferry/volumes/{name}/clone", post(clone))
        .route("/ferry/volumes/{name}/backup", get(backup))
        .route("/ferry/volumes/{name}/fill", post(fill))
}

fn shown(snapshot: VolumeSnapshot) -> Snapshot {
    Snapshot { name: snapshot.name, created_at: snapshot.created, size: snapshot.size }
}

async fn list(State(engine): AppState, Path(name): Path<String>) -> Result<Json<Vec<Snapshot>>, HttpError> {
    let found = blocking(&engine, move |engine| engine.store.volumes().snapshots(&name)).await?;
    Ok(Json(found.into_iter().map(shown).collect()))
}

async fn snapshot(
    State(engine): AppState,
    Path(name): Path<String>,
    GoJson(request): GoJson<SnapshotRequest>,
) -> Result<Response, HttpError> {
    let made = with_writers_frozen(&engine, name.clone(), move |engine| {
        engine.store.volumes().snapshot(&name, &request.name)
    })
    .await?;
    Ok((StatusCode::CREATED, Json(shown(made))).into_response())
}

async fn remove(
    State(engine): AppState,
    Path((name, snapshot)): Path<(String, String)>,
) -> Result<StatusCode, HttpError> {
    blocking(&engine, move |engine| engine.store.volumes().remove_snapshot(&name, &snapshot)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restore(
    State(engine): AppState,
    Path(name): Path<String>,
    GoJson(request): GoJson<RestoreRequest>,
) -> Result<StatusCode, HttpError> {
    // A container that starts meanwhile would go on with the old data: its start waits for this.
    let mut waiting = Vec::new();
    let mut users = users(&engine, &name);
    // One order for all that hold several.
    users.sort_by(|a, b| a.id.cmp(&b.id));
    for container in users {
        waiting.push(Arc::clone(&container.lifecycle).lock_owned().await);
        if matches!(container.status(), Status::Running | Status::Paused | Status::Restarting) {
            return Err(HttpError::conflict(format!(
                "restore {name}: container {} runs with this volume",
                container.name()
            )));
        }
    }
    blocking(&engine, move |engine| {
        let _waiting = waiting;
        engine.store.volumes().restore(&name, &request.name, request.force)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clone(
    State(engine): AppState,
    Path(name): Path<String>,
    GoJson(request): GoJson<CloneRequest>,
) -> Result<Response, HttpError> {
    let made = with_writers_frozen(&engine, name.clone(), move |engine| {
        let made = engine.store.volumes().clone_volume(&name, &request.name)?;
        emit(engine, "create", &made);
        Ok(made)
    })
    .await?;
    Ok((StatusCode::CREATED, Json(view(&made))).into_response())
}

/// Where the data of a new volume comes from.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FillRequest {
    source: PathBuf,
}

/// Copies a folder of this machine into an empty volume. For root alone: the engine may read more than others.
async fn fill(
    State(engine): AppState,
    Path(name): Path<String>,
    Extension(caller): Extension<Option<Caller>>,
    GoJson(request): GoJson<FillRequest>,
) -> Result<StatusCode, HttpError> {
    if caller.is_none_or(|caller| caller.uid != 0) {
        return Err(HttpError::forbidden("only root on this machine may fill a volume from a folder"));
    }
    if !request.source.is_absolute() || !request.source.is_dir() {
        let place = request.source.display();
        return Err(HttpError::bad_request(format!("{place} is no folder of this machine")));
    }
    let volume = engine.store.volumes().get(&name)?;
    let mut entries = std::fs::read_dir(&volume.mountpoint).into_iter().flatten();
    if entries.next().is_some() {
        return Err(HttpError::conflict(format!("fill {name}: the volume is not empty")));
    }
    blocking(&engine, move |engine| {
        let copy = |target: &std::path::Path| ferry_store::copy::copy_tree(&request.source, target);
        Ok(engine.store.volumes().fill::<ferry_store::IoError>(&name, copy)?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The data as a tar. Where somebody may write meanwhile, they are frozen while a copy is made, and the tar
/// is made of that: a slow reader holds up no container.
async fn backup(State(engine): AppState, Path(name): Path<String>) -> Result<Response, HttpError> {
    let volume = engine.store.volumes().get(&name)?;
    let frozen = freeze_writers(&engine, &name).await?;
    let copied = match frozen.any() {
        true => {
            let volume = Arc::clone(&volume);
            let copy = move |engine: &Engine| engine.store.volumes().copy_for_reading(&volume);
            let task = tokio::spawn(async move {
                let copied = blocking(&engine, copy).await;
                frozen.thaw().await;
                (engine, copied)
            });
            let (engine, copied) = task.await.map_err(|error| HttpError::internal(error.to_string()))?;
            Ok((engine, Some(copied?)))
        }
        false => Ok::<_, HttpError>((engine, None)),
    };
    let (engine, copied) = copied?;
    let (writer, body) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let mut writer = writer;
        let place = copied.as_ref().map_or_else(|| volume.mountpoint.clone(), |copy| copy.path().to_owned());
        if let Err(error) = stream(&engine, &volume, place, &mut writer) {
            writer.fail(std::io::Error::other(error));
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

fn stream(
    engine: &Engine,
    volume: &ferry_store::Volume,
    place: PathBuf,
    writer: &mut BodyWriter,
) -> Result<(), String> {
    let _held = engine.live_volumes.hold(volume).map_err(|error| error.to_string())?;
    let root = Root::open(&place).map_err(|error| error_chain(&error))?;
    let options = PackOptions { layer: false, name: Some(b"./".to_vec()) };
    pack(root, &options, writer).map(drop).map_err(|error| error_chain(&error))
}

/// Runs work while nobody writes to a volume.
async fn with_writers_frozen<T: Send + 'static>(
    engine: &Arc<Engine>,
    name: String,
    work: impl FnOnce(&Engine) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, HttpError> {
    engine.store.volumes().get(&name)?;
    let engine = Arc::clone(engine);
    let task = tokio::spawn(async move {
        let frozen = freeze_writers(&engine, &name).await?;
        let done = blocking(&engine, work).await;
        frozen.thaw().await;
        done
    });
    task.await.map_err(|error| HttpError::internal(error.to_string()))?
}

async fn blocking<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, HttpError> {
    let engine = Arc::clone(engine);
    let done = tokio::task::spawn_blocking(move || work(&engine)).await;
    Ok(done.map_err(|error| HttpError::internal(error.to_string()))??)
}

impl crate::error::HttpStatus for FreezeError {
    fn status(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}
