//! `/ferry/sockets`: sockets that let a part of the API through. Ferry's own.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

use crate::engine::Engine;
use crate::error::HttpError;
use crate::server::body::GoJson;
use crate::server::params::Params;
use crate::server::scope::Scope;
use crate::server::sockets;

type AppState = State<Arc<Engine>>;

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/ferry/sockets", get(list).post(create).delete(remove))
}

async fn list(State(engine): AppState) -> Result<Json<Vec<Scope>>, HttpError> {
    Ok(Json(engine.sockets.list()?))
}

async fn create(
    State(engine): AppState,
    GoJson(scope): GoJson<Scope>,
) -> Result<(StatusCode, Json<Scope>), HttpError> {
    sockets::create(&engine, scope.clone()).await?;
    Ok((StatusCode::CREATED, Json(scope)))
}

async fn remove(State(engine): AppState, params: Params) -> Result<StatusCode, HttpError> {
    let path = PathBuf::from(params.get("path").unwrap_or(""));
    sockets::remove(&engine, &path)?;
    Ok(StatusCode::NO_CONTENT)
}
