//! The routes of the API, one file per area; each file exports `routes()`.

mod build;
mod containers;
mod disk;
mod events;
mod exec;
mod explore;
mod files;
mod images;
mod networks;
mod registries;
mod run;
mod shelf;
mod sockets;
mod swarm;
mod system;
mod transfer;
mod usage;
mod vault;
mod volume_copies;
mod volumes;
mod websocket;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::engine::Engine;
use crate::error::HttpError;

/// Every route; an unknown path and a wrong method are both "page not found", as in Docker.
pub fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .merge(build::routes())
        .merge(containers::routes())
        .merge(exec::routes())
        .merge(explore::routes())
        .merge(swarm::routes())
        .merge(system::routes())
        .merge(networks::routes())
        .merge(images::routes())
        .merge(disk::routes())
        .merge(files::routes())
        .merge(usage::routes())
        .merge(vault::routes())
        .merge(volumes::routes())
        .merge(volume_copies::routes())
        .merge(transfer::routes())
        .merge(websocket::routes())
        .merge(registries::routes())
        .merge(sockets::routes())
        .merge(run::routes())
        .merge(shelf::routes())
        .route("/events", get(events::stream))
        .fallback(page_not_found)
        .method_not_allowed_fallback(page_not_found)
        .with_state(engine)
}

async fn page_not_found() -> HttpError {
    HttpError::not_found("page not found")
}
