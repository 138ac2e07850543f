//! `/containers/{id}/archive`, `export`, `changes` and `/commit`: a container's files.

use std::io::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use ferry_oci::Reference;
use ferry_store::pack::{PackOptions, pack};
use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::files::{self, ArchiveError, Asked, CommitRequest, Follow, PathStat, PutOptions};
use crate::server::body::GoJson;
use crate::server::bridge::{BodyReader, BodyWriter};
use crate::server::params::Params;

const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

type AppState = State<Arc<Engine>>;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/{id}/archive", get(get_archive).head(stat_archive).put(put_archive))
        .route("/containers/{id}/export", get(export))
        .route("/containers/{id}/changes", get(changes))
        .route("/commit", post(commit))
}

fn asked(id: &str, params: &Params) -> Result<Asked, HttpError> {
    let path = params.get("path").ok_or_else(|| HttpError::bad_request("missing parameter: path"))?;
    Ok(Asked { container: id.to_owned(), path: path.to_owned() })
}

fn with_stat(stat: &PathStat) -> [(HeaderName, String); 1] {
    let json = serde_json::to_vec(stat).unwrap_or_default();
    [(PATH_STAT, base64::engine::general_purpose::STANDARD.encode(json))]
}

async fn stat_archive(
    State(engine): AppState,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, HttpError> {
    let container = engine.containers.find(&id)?;
    let asked = asked(&id, &params)?;
    let stat = files::with_root(&engine, &container, move |view| files::stat(&view, &asked))
        .await
        .map_err(ArchiveError::from)??;
    Ok(with_stat(&stat).into_response())
}

async fn get_archive(
    State(engine): AppState,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, HttpError> {
    let container = engine.containers.find(&id)?;
    let asked = asked(&id, &params)?;
    let (writer, body) = BodyWriter::new();
    // Told once: what was found, or why nothing was.
    let (tell, mut told) = mpsc::channel::<Result<PathStat, HttpError>>(1);
    tokio::spawn(async move {
        let found = tell.clone();
        let work = move |view| {
            let mut writer = writer;
            let found = |stat| drop(found.try_send(Ok(stat)));
            match files::get(view, &asked, found, &mut writer) {
                Ok(()) => Ok(()),
                Err(error) => {
                    writer.fail(std::io::Error::other(error_chain(&error)));
                    Err(error)
                }
            }
        };
        let result = files::with_root(&engine, &container, work).await.map_err(ArchiveError::from);
        if let Err(error) = result.and_then(|result| result) {
            tracing::debug!(error = %error_chain(&error), "copy from a container");
            drop(tell.try_send(Err(error.into())));
        }
    });
    let stat = told.recv().await.unwrap_or_else(|| Err(HttpError::internal("the copy broke down")))?;
    Ok((with_stat(&stat), [(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

async fn put_archive(
    State(engine): AppState,
    Path(id): Path<String>,
    params: Params,
    body: Body,
) -> Result<Response, HttpError> {
    let container = engine.containers.find(&id)?;
    let asked = asked(&id, &params)?;
    // A container that runs as root keeps the owners that the tar names.
    let named_user = !container.lock().record.config.user.is_empty();
    let owner = match params.flag("copyUIDGID") && named_user {
        true => Some(own_user(&engine, &container)?),
        false => None,
    };
    let options = PutOptions { keep_kinds: params.flag("noOverwriteDirNonDir"), owner };
    let reader = BodyReader::new(body);
    container.forget_measured();
    let put = files::with_root(&engine, &container, move |view| files::put(view, &asked, options, reader));
    let put = put.await;
    container.forget_measured();
    put.map_err(ArchiveError::from)??;
    Ok(StatusCode::OK.into_response())
}

/// The user and group that the container runs as.
fn own_user(engine: &Engine, container: &Container) -> Result<(u32, u32), HttpError> {
    let snapshot = engine
        .store
        .snapshots()
        .get(&container.id)
        .map_err(|error| HttpError::internal(error_chain(&error)))?;
    let mut layers = vec![snapshot.upper];
    layers.extend(snapshot.lowers);
    let user = container.lock().record.config.user.clone();
    let layered = crate::spec::layered::Layered::new(layers);
    let identity = crate::container::start::account(&user, &[], &layered)
        .map_err(|error| HttpError::bad_request(error_chain(&error)))?;
    Ok((identity.uid, identity.gid))
}

/// With the parameter `image` (Ferry's own) the files of the container's image alone, as a build's result is them.
async fn export(
    State(engine): AppState,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, HttpError> {
    let container = engine.containers.find(&id)?;
    let of_image = params.flag("image");
    let (writer, body) = BodyWriter::new();
    let (tell, mut told) = mpsc::channel::<Result<(), HttpError>>(1);
    tokio::spawn(async move {
        let found = tell.clone();
        let work = move |view: files::View| -> Result<(), String> {
            let mut writer = writer;
            let place =
                view.resolve(b"/", Follow::Yes, &mut Vec::new()).map_err(|errno| errno.to_string())?;
            let root = view.into_root(place, false).map_err(|errno| errno.to_string())?;
            drop(found.try_send(Ok(())));
            let packed =
                pack(root, &PackOptions::default(), &mut writer).map_err(|error| error_chain(&error));
            match packed.and_then(|_| writer.flush().map_err(|error| error.to_string())) {
                Ok(()) => Ok(()),
                Err(error) => {
                    writer.fail(std::io::Error::other(error.clone()));
                    Err(error)
                }
            }
        };
        let done = match of_image {
            true => files::with_image_root(&engine, &container, work).await,
            false => files::with_root(&engine, &container, work).await,
        };
        match done.map_err(|error| error_chain(&error)) {
            Ok(Ok(())) => {
                engine.events.emit("container", "export", &container.id, container.event_attributes())
            }
            Ok(Err(error)) | Err(error) => drop(tell.try_send(Err(HttpError::internal(error)))),
        }
    });
    told.recv().await.unwrap_or_else(|| Err(HttpError::internal("the export broke down")))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

async fn changes(State(engine): AppState, Path(id): Path<String>) -> Result<Response, HttpError> {
    let container = engine.containers.find(&id)?;
    let changes = tokio::task::spawn_blocking(move || engine.store.changes(&container.id))
        .await
        .map_err(|error| HttpError::internal(error.to_string()))?
        .map_err(|error| HttpError::internal(error_chain(&error)))?;
    let list: Vec<Value> =
        changes.into_iter().map(|change| json!({ "Path": change.path, "Kind": change.kind as u8 })).collect();
    Ok(Json(list).into_response())
}

async fn commit(
    State(engine): AppState,
    params: Params,
    GoJson(config): GoJson<Value>,
) -> Result<Response, HttpError> {
    let id = params.get("container").ok_or_else(|| HttpError::bad_request("missing parameter: container"))?;
    let container = engine.containers.find(id)?;
    let bad = |error: ferry_oci::ReferenceError| HttpError::bad_request(error.to_string());
    let reference = match (params.get("repo"), params.get("tag")) {
        (None, _) => None,
        (Some(repo), None) => Some(Reference::parse_normalized(repo).map_err(bad)?),
        (Some(repo), Some(tag)) => {
            Some(Reference::parse_normalized(repo).and_then(|name| name.with_tag(tag)).map_err(bad)?)
        }
    };
    let request = CommitRequest {
        reference,
        comment: params.get("comment").unwrap_or_default().to_owned(),
        author: params.get("author").unwrap_or_default().to_owned(),
        pause: params.flag_or("pause", true),
        changes: params.all("changes").flat_map(str::lines).map(str::to_owned).collect(),
        config,
    };
    let image = files::commit(&engine, &container, request).await?;
    let mut attributes = container.event_attributes();
    attributes.insert("imageID".into(), image.id.to_string());
    engine.events.emit("container", "commit", &container.id, attributes);
    Ok((StatusCode::CREATED, Json(json!({ "Id": image.id.to_string() }))).into_response())
}
