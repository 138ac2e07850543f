//! `/secrets/...` and `/configs/...`: values of the store, on this engine alone. Docker has them in swarms
//! only; the paths and shapes are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_api::vault::{CreateResponse, Spec, VaultObject, Version};
use ferry_store::{VaultEntry, VaultError, VaultKind};
use http::StatusCode;

use crate::engine::Engine;
use crate::error::{HttpError, HttpStatus};
use crate::secrets::kind_of;
use crate::server::body::GoJson;
use crate::server::params::Params;
use crate::spec::mounts::MountKind;

const LIST_KEYS: &[&str] = &["id", "label", "name", "names"];

type AppState = State<Arc<Engine>>;

impl HttpStatus for VaultError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Exists { .. } => StatusCode::CONFLICT,
            Self::Ambiguous { .. } | Self::Name { .. } | Self::Size { .. } => StatusCode::BAD_REQUEST,
            Self::Sealed { .. } | Self::Key(_) | Self::Io(_) | Self::Database(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    of_kind("/secrets", VaultKind::Secret).merge(of_kind("/configs", VaultKind::Config))
}

fn of_kind(base: &'static str, kind: VaultKind) -> Router<Arc<Engine>> {
    let listing = move |state: AppState, params: Params| list(state, kind, params);
    let creating = move |state: AppState, body: GoJson<Spec>| create(state, kind, body);
    let inspecting = move |state: AppState, path: Path<String>| inspect(state, kind, path);
    let removing = move |state: AppState, path: Path<String>| remove(state, kind, path);
    let updating = move |state: AppState, path: Path<String>, params: Params, body: GoJson<Spec>| {
        update(state, kind, path, params, body)
    };
    Router::new()
        .route(base, get(listing))
        .route(&format!("{base}/create"), post(creating))
        .route(&format!("{base}/{{id}}"), get(inspecting).delete(removing))
        .route(&format!("{base}/{{id}}/update"), post(updating))
}

fn view(entry: VaultEntry, data: String) -> VaultObject {
    VaultObject {
        id: entry.id,
        version: Version { index: entry.version },
        created_at: entry.created,
        updated_at: entry.updated,
        spec: Spec { name: entry.name, labels: Some(entry.labels), data, ..Spec::default() },
    }
}

/// What a config shows and a secret does not.
fn shown(engine: &Engine, entry: VaultEntry) -> Result<VaultObject, VaultError> {
    let data = match entry.kind {
        VaultKind::Secret => String::new(),
        VaultKind::Config => STANDARD.encode(engine.store.vault().open(&entry)?),
    };
    Ok(view(entry, data))
}

async fn list(
    State(engine): AppState,
    kind: VaultKind,
    params: Params,
) -> Result<Json<Vec<VaultObject>>, HttpError> {
    let filters = params.filters(LIST_KEYS)?;
    let wanted = |entry: &VaultEntry| {
        let by_id = !filters.contains("id") || filters.get("id").any(|part| entry.id.starts_with(part));
        let by_name =
            !filters.contains("name") || filters.get("name").any(|part| entry.name.starts_with(part));
        by_id
            && by_name
            && filters.exact_match("names", &entry.name)
            && filters.match_labels("label", &entry.labels)
    };
    let entries = engine.store.vault().list(kind)?.into_iter().filter(wanted);
    Ok(Json(entries.map(|entry| shown(&engine, entry)).collect::<Result<_, _>>()?))
}

async fn create(
    State(engine): AppState,
    kind: VaultKind,
    GoJson(spec): GoJson<Spec>,
) -> Result<Response, HttpError> {
    if spec.driver.is_some() || spec.templating.is_some() {
        let message = format!("drivers and templates of a {} are not supported", kind.as_str());
        return Err(HttpError::bad_request(message));
    }
    let data = STANDARD
        .decode(&spec.data)
        .map_err(|error| HttpError::bad_request(format!("the data is not base64: {error}")))?;
    let work = Arc::clone(&engine);
    let made = tokio::task::spawn_blocking(move || {
        work.store.vault().create(kind, &spec.name, spec.labels.unwrap_or_default(), &data)
    });
    let entry = made.await.map_err(|error| HttpError::internal(error.to_string()))??;
    emit(&engine, "create", &entry);
    Ok((StatusCode::CREATED, Json(CreateResponse { id: entry.id })).into_response())
}

async fn inspect(
    State(engine): AppState,
    kind: VaultKind,
    Path(id): Path<String>,
) -> Result<Json<VaultObject>, HttpError> {
    let entry = engine.store.vault().find(kind, &id)?;
    Ok(Json(shown(&engine, entry)?))
}

async fn remove(
    State(engine): AppState,
    kind: VaultKind,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    let entry = engine.store.vault().find(kind, &id)?;
    let users = users(&engine, &entry);
    if !users.is_empty() {
        let (kind, name, plural) = (kind.as_str(), &entry.name, if users.len() > 1 { "s" } else { "" });
        let users = users.join(", ");
        return Err(HttpError::bad_request(format!(
            "rpc error: code = InvalidArgument desc = {kind} '{name}' is in use by the following container{plural}: {users}"
        )));
    }
    let (work, removed) = (Arc::clone(&engine), entry.clone());
    tokio::task::spawn_blocking(move || work.store.vault().remove(&removed))
        .await
        .map_err(|error| HttpError::internal(error.to_string()))??;
    emit(&engine, "remove", &entry);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Names of containers that have it.
fn users(engine: &Engine, entry: &VaultEntry) -> Vec<String> {
    let has = |container: &Arc<crate::container::Container>| {
        let inner = container.lock();
        let uses = inner.record.mounts.iter().any(|plan| {
            plan.kind == MountKind::Secret && kind_of(plan) == entry.kind && plan.name == entry.name
        });
        uses.then(|| inner.record.name.clone())
    };
    engine.containers.all().iter().filter_map(has).collect()
}

/// Only labels can change, as in Docker.
async fn update(
    State(engine): AppState,
    kind: VaultKind,
    Path(id): Path<String>,
    params: Params,
    GoJson(spec): GoJson<Spec>,
) -> Result<Response, HttpError> {
    let entry = engine.store.vault().find(kind, &id)?;
    let changed = |what: &str| {
        HttpError::bad_request(format!(
            "rpc error: code = InvalidArgument desc = only updates to Labels are allowed, not to the {what}"
        ))
    };
    if !spec.name.is_empty() && spec.name != entry.name {
        return Err(changed("name"));
    }
    if !spec.data.is_empty() && STANDARD.decode(&spec.data).ok() != Some(engine.store.vault().open(&entry)?) {
        return Err(changed("data"));
    }
    if params.get("version").is_some_and(|version| version != entry.version.to_string()) {
        return Err(HttpError::bad_request("rpc error: code = Unknown desc = update out of sequence"));
    }
    let (work, updated) = (Arc::clone(&engine), entry.clone());
    tokio::task::spawn_blocking(move || {
        work.store.vault().set_labels(&updated, spec.labels.unwrap_or_default())
    })
    .await
    .map_err(|error| HttpError::internal(error.to_string()))??;
    emit(&engine, "update", &entry);
    Ok(StatusCode::OK.into_response())
}

fn emit(engine: &Engine, action: &str, entry: &VaultEntry) {
    let attributes = BTreeMap::from([("name".to_owned(), entry.name.clone())]);
    engine.events.emit(entry.kind.as_str(), action, &entry.id, attributes);
}
