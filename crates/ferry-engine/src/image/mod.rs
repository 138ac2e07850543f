//! Images as the API shows them: from the store's records to Docker's objects, filters, removal.
//!
//! Owns no state. What an image is and where it lies is `ferry-store`'s business; which containers
//! use it is told to the store by [`users_of`].

pub mod embedded;
pub mod filter;
pub mod manifests;
pub mod remove;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ferry_store::ImageUser;
use http::StatusCode;

use crate::container::state::Status;
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::spec::mounts::{MountKind, MountPlan};

/// The containers made of an image, or that have it mounted.
pub fn users_of(engine: &Engine, id: &ferry_oci::Digest) -> Vec<ImageUser> {
    let id = id.to_string();
    let containers = engine.containers.all();
    let uses = |container: &&std::sync::Arc<crate::container::Container>| {
        let inner = container.lock();
        let mounted = |plan: &MountPlan| plan.kind == MountKind::Image && plan.source == id;
        inner.record.image_id == id || inner.record.mounts.iter().any(mounted)
    };
    let users = containers.iter().filter(uses);
    users
        .map(|container| ImageUser {
            container_id: container.id.clone(),
            running: matches!(container.status(), Status::Running | Status::Paused | Status::Restarting),
        })
        .collect()
}

/// How many containers each image has, by its id.
pub fn users_by_image(engine: &Engine) -> HashMap<String, i64> {
    let mut users = HashMap::new();
    for container in engine.containers.all() {
        let inner = container.lock();
        let mounted = inner.record.mounts.iter().filter(|plan| plan.kind == MountKind::Image);
        let mut images: BTreeSet<&str> = mounted.map(|plan| plan.source.as_str()).collect();
        images.insert(&inner.record.image_id);
        for image in images {
            *users.entry(image.to_owned()).or_default() += 1;
        }
    }
    users
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

impl HttpStatus for ferry_store::image::AnnotateError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Platform { .. } => StatusCode::BAD_REQUEST,
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
