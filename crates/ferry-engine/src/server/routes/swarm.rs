//! What a Docker that is in no swarm answers about swarms, and what one without plugins answers about those.
//! Clients ask to find out; they are written for these answers.

use std::sync::Arc;

use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::Value;

use crate::engine::Engine;
use crate::error::HttpError;

/// First parts of the paths that belong to a swarm.
const SWARM: &[&str] = &["/swarm", "/nodes", "/services", "/tasks"];

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    let swarm = SWARM.iter().fold(Router::new(), |router, path| {
        router.route(path, any(no_swarm)).route(&format!("{path}/{{*rest}}"), any(no_swarm))
    });
    swarm.route("/plugins", get(no_plugins)).route("/plugins/{*rest}", any(plugins_unsupported))
}

async fn no_swarm() -> HttpError {
    HttpError::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    )
}

async fn no_plugins() -> Json<Vec<Value>> {
    Json(Vec::new())
}

async fn plugins_unsupported() -> HttpError {
    HttpError::not_implemented("plugins are not supported: volumes, networks and logs are built in")
}
