//! Removing a container: from the registry, its files, its anonymous volumes. Every step may be repeated.

use std::sync::Arc;
use std::time::Duration;

use ferry_store::IoError;
use http::StatusCode;

use super::state::{Change, Refused, Status};
use super::{Container, restart, stop, volumes};
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::network;

/// How long a removal waits for clients to read the rest of the log.
const READERS_PATIENCE: Duration = Duration::from_secs(5);

/// Why a container was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It runs.
    #[error(
        "cannot remove container \"/{0}\": container is running: stop the container before removing or force remove"
    )]
    Running(String),
    /// It is frozen.
    #[error("cannot remove container \"/{0}\": container is paused and must be unpaused first")]
    Paused(String),
    /// It waits for its restart.
    #[error(
        "cannot remove container \"/{0}\": container is restarting: stop the container before removing or force remove"
    )]
    Restarting(String),
    /// Somebody else is at it.
    #[error("removal of container {0} is already in progress")]
    InProgress(String),
    /// It changed meanwhile.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl HttpStatus for RemoveError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Running(_)
            | Self::Paused(_)
            | Self::Restarting(_)
            | Self::InProgress(_)
            | Self::Refused(_) => StatusCode::CONFLICT,
            Self::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What goes with a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// End it first.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

/// Removes a container.
pub async fn remove(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    options: RemoveOptions,
) -> Result<(), RemoveError> {
    if container.status() == Status::Removing || container.lock().removed {
        return Err(RemoveError::InProgress(container.id.clone()));
    }
    let _lifecycle = container.lifecycle.lock().await;
    let name = container.name();
    match container.status() {
        Status::Running if !options.force => return Err(RemoveError::Running(name)),
        Status::Paused if !options.force => return Err(RemoveError::Paused(name)),
        Status::Restarting if !options.force => return Err(RemoveError::Restarting(name)),
        Status::Running | Status::Paused => {
            container.lock().record.state.manually_stopped = true;
            container.lock().hold_removal = true;
            stop::kill_for_good(engine, container).await;
        }
        Status::Restarting => {
            restart::cancel(engine, container);
        }
        Status::Removing => return Err(RemoveError::InProgress(container.id.clone())),
        Status::Created | Status::Exited | Status::Dead => {}
    }
    if container.lock().removed {
        return Err(RemoveError::InProgress(container.id.clone()));
    }
    remove_locked(engine, container, options.volumes).await
}

/// Removes a container that does not run and whose lifecycle lock the caller holds.
pub async fn remove_locked(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    volumes: bool,
) -> Result<(), RemoveError> {
    container.change(Change::Remove, |_| ())?;
    // An engine that dies now finds the mark and goes on; --rm says as much by itself.
    if !container.lock().record.host_config.auto_remove {
        container.persist(&engine.store, false)?;
    }
    let outcome = delete(engine, container, volumes).await;
    match outcome {
        Ok(()) => {
            container.lock().removed = true;
            container.announce_removal(Ok(()));
            engine.events.emit("container", "destroy", &container.id, container.event_attributes());
            Ok(())
        }
        Err(error) => {
            let message = crate::error::error_chain(&error);
            container.announce_removal(Err(message.clone()));
            let marked = container.change(Change::RemoveFailed, |inner| inner.record.state.error = message);
            if let Err(refused) = marked {
                tracing::debug!(%refused, "mark a failed removal");
            }
            Err(error)
        }
    }
}

async fn delete(engine: &Arc<Engine>, container: &Arc<Container>, volumes: bool) -> Result<(), RemoveError> {
    network::detach(engine, container).await;
    container.output.drained(READERS_PATIENCE).await;
    let record = container.record();
    if volumes || record.host_config.auto_remove {
        volumes::remove_anonymous(engine, &record);
    }
    engine.store.containers().remove(&container.id)?;
    // The monitor removes its own socket; this is for one that died.
    let _ = std::fs::remove_dir_all(engine.run_dir(&container.id));
    engine.containers.remove(&container.id);
    Ok(())
}

/// Removes a container with `--rm` that ended, without anyone waiting for it.
pub fn spawn_auto_remove(engine: &Arc<Engine>, container: &Arc<Container>) {
    if container.lock().hold_removal {
        return;
    }
    let (engine, container) = (Arc::clone(engine), Arc::clone(container));
    tokio::spawn(async move {
        let _lifecycle = container.lifecycle.lock().await;
        if container.lock().removed || container.lock().hold_removal || container.status().has_process() {
            return;
        }
        if let Err(error) = remove_locked(&engine, &container, true).await {
            tracing::error!(container = %container.id, %error, "remove a container that ended");
        }
    });
}
