//! Holding still who writes to a volume while it is copied.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::container::Container;
use crate::container::state::Status;
use crate::container::volumes::users;
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

/// Containers that stand still until [`Frozen::thaw`].
#[derive(Default)]
pub struct Frozen {
    links: Vec<(ShimLink, OwnedMutexGuard<()>)>,
}

impl Frozen {
    /// Whether anybody had to be frozen.
    pub fn any(&self) -> bool {
        !self.links.is_empty()
    }

    /// Lets all go on.
    pub async fn thaw(mut self) {
        thaw_all(std::mem::take(&mut self.links)).await;
    }
}

impl Drop for Frozen {
    /// Whoever was to let them go on has gone away.
    fn drop(&mut self) {
        if !self.links.is_empty() {
            tokio::spawn(thaw_all(std::mem::take(&mut self.links)));
        }
    }
}

async fn thaw_all(links: Vec<(ShimLink, OwnedMutexGuard<()>)>) {
    for (link, _lifecycle) in links {
        if let Err(error) = link.freeze(false).await {
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
        match link.freeze(true).await {
            Ok(()) => frozen.links.push((link, lifecycle)),
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
