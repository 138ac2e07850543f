//! Images as the API shows them: from the store's records to Docker's objects, filters, removal.
//!
//! Owns no state. What an image is and where it lies is `ferry-store`'s business; which containers
//! use it is told to the store by [`users_of`].

pub mod embedded;
pub mod filter;
pub mod remove;
pub mod view;

use std::collections::BTreeMap;

use ferry_store::ImageUser;
use http::StatusCode;

use crate::container::state::Status;
use crate::engine::Engine;
use crate::error::HttpStatus;

/// The containers made of an image.
pub fn users_of(engine: &Engine, id: &ferry_oci::Digest) -> Vec<ImageUser> {
    let id = id.to_string();
    let containers = engine.containers.all();
    let users = containers.iter().filter(|container| container.lock().record.image_id == id);
    users
        .map(|container| ImageUser {
            container_id: container.id.clone(),
            running: matches!(container.status(), Status::Running | Status::Paused | Status::Restarting),
        })
        .collect()
}

/// Tells who listens that something happened to an image.
pub fn emit(engine: &Engine, action: &str, id: &str, name: &str) {
    let mut attributes = BTreeMap::new();
    if !name.is_empty() {
        attributes.insert("name".to_owned(), name.to_owned());
    }
    engine.events.emit("image", action, id, attributes);
}

impl HttpStatus for ferry_store::ResolveError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Ambiguous { .. } | Self::Reference(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl HttpStatus for ferry_store::RemoveError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Resolve(error) => error.status(),
            Self::ReferenceInUse { .. } | Self::Delete { .. } => StatusCode::CONFLICT,
            Self::Layer(_) | Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl HttpStatus for ferry_store::TagError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Digest => StatusCode::BAD_REQUEST,
            Self::Database(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl HttpStatus for ferry_store::ImportError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Change(_) | Self::Layer(_) => StatusCode::BAD_REQUEST,
            Self::Register(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
