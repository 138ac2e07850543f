//! Holding still who writes to a volume while it is copied.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::container::state::Status;
use crate::container::volumes::users;
use crate::container::{Container, stuck};
use crate::engine::Engine;
use crate::shim::{LinkError, ShimLink};
use crate::spec::mounts::MountKind;

/// A container that cannot be frozen.
#[derive(Debug, thiserror::Error)]
#[error("freeze container {id}, which writes to the volume")]
pub struct FreezeError {
    id: String,
    #[source]
    source: LinkError,
}

type Held = (Arc<Container>, ShimLink, OwnedMutexGuard<()>);

/// Containers that stand still until [`Frozen::thaw`].
#[derive(Default)]
pub struct Frozen {
    held: Vec<Held>,
}

impl Frozen {
    /// Whether anybody had to be frozen.
    pub fn any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Lets all go on.
    pub async fn thaw(mut self) {
        thaw_all(std::mem::take(&mut self.held)).await;
    }
}

impl Drop for Frozen {
    /// Whoever was to let them go on has gone away.
    fn drop(&mut self) {
        if !self.held.is_empty() {
            tokio::spawn(thaw_all(std::mem::take(&mut self.held)));
        }
    }
}

async fn thaw_all(held: Vec<Held>) {
    for (container, link, _lifecycle) in held {
        // Not `freeze`: one that answers late shall go on all the same.
        if let Err(error) = stuck::answered(&container, link.freeze(false)).await {
            tracing::error!(%error, "a container stays frozen");
        }
    }
}

/// Freezes the running containers that may write to a volume. None of them can be paused, stopped or
/// started until they go on.
pub async fn freeze_writers(engine: &Engine, volume: &str) -> Result<Frozen, FreezeError> {
    let mut writers: Vec<Arc<Container>> =
        users(engine, volume).into_iter().filter(|container| writes(container, volume)).collect();
    // One order for all: two copies at once cannot wait for each other.
    writers.sort_by(|a, b| a.id.cmp(&b.id));
    let mut frozen = Frozen::default();
    for container in writers {
        let lifecycle = Arc::clone(&container.lifecycle).lock_owned().await;
        let Some(link) = container.link().filter(|_| container.status() == Status::Running) else { continue };
        match stuck::freeze(&container, &link, true).await {
            Ok(()) => frozen.held.push((Arc::clone(&container), link, lifecycle)),
            // It ended in between, and writes no more.
            Err(_) if container.status() != Status::Running => {}
            Err(source) => {
                frozen.thaw().await;
                return Err(FreezeError { id: container.id.clone(), source });
            }
        }
    }
    Ok(frozen)
}

fn writes(container: &Container, volume: &str) -> bool {
    let inner = container.lock();
    let mut mounts = inner.record.mounts.iter();
    mounts.any(|plan| plan.kind == MountKind::Volume && plan.name == volume && !plan.read_only)
}
