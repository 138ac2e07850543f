//! `docker rename`.

use std::sync::Arc;

use ferry_store::IoError;
use http::StatusCode;

use super::Container;
use super::name::{InvalidName, check_name};
use super::registry::NameTaken;
use crate::engine::Engine;
use crate::error::HttpStatus;

/// Why a container was not renamed.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// No name at all.
    #[error("Neither old nor new names may be empty")]
    Empty,
    /// The name it has.
    #[error("Renaming a container with the same name as its current name")]
    Same,
    /// The name breaks the rule.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The name is taken.
    #[error(transparent)]
    Taken(#[from] NameTaken),
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl HttpStatus for RenameError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Empty | Self::Same | Self::Name(_) => StatusCode::BAD_REQUEST,
            Self::Taken(_) => StatusCode::CONFLICT,
            Self::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Gives a container another name.
pub async fn rename(engine: &Arc<Engine>, container: &Arc<Container>, new: &str) -> Result<(), RenameError> {
    if new.is_empty() {
        return Err(RenameError::Empty);
    }
    let new = check_name(new)?;
    let _lifecycle = container.lifecycle.lock().await;
    let old = container.name();
    if old == new {
        return Err(RenameError::Same);
    }
    engine.containers.reserve(&new, &container.id)?;
    container.lock().record.name.clone_from(&new);
    if let Err(error) = container.persist(&engine.store, container.is_durable()) {
        container.lock().record.name = old;
        engine.containers.release(&new, &container.id);
        return Err(error.into());
    }
    engine.containers.release(&old, &container.id);
    crate::network::refresh_host_names(engine);
    if let Err(error) = crate::network::renamed(engine, container).await {
        tracing::error!(container = %container.id, %error, "tell the DNS service a new name");
    }
    let mut attributes = container.event_attributes();
    attributes.insert("oldName".into(), format!("/{old}"));
    engine.events.emit("container", "rename", &container.id, attributes);
    Ok(())
}
