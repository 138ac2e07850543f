//! Opening a container's root for a piece of blocking work.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use ferry_runtime::Rootfs;
use ferry_store::SnapshotError;
use rustix::fs::{Mode, OFlags};

use super::view::{Mounted, View};
use crate::container::Container;
use crate::container::record::Record;
use crate::container::state::Status;
use crate::engine::Engine;
use crate::shim::LinkError;
use crate::spec::mounts::{MountKind, MountPlan};

/// Why a container's root cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The monitor does not give it.
    #[error("reach the files of container {id}")]
    Link {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: LinkError,
    },
    /// The layers are not there.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The overlay cannot be mounted.
    #[error("mount the root of container {id}: {message}")]
    Mount {
        /// The container.
        id: String,
        /// What the runtime says.
        message: String,
    },
    /// A volume or bind cannot be opened.
    #[error("open {path}, which is mounted into the container")]
    Source {
        /// Path on the host.
        path: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The work itself broke down.
    #[error("the work on the container's files failed")]
    Broken(#[from] tokio::task::JoinError),
}

/// Runs `work` with the container's root, on a thread for blocking work.
pub async fn with_root<T: Send + 'static>(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    work: impl FnOnce(View) -> T + Send + 'static,
) -> Result<T, RootError> {
    if let Some(root) = running_root(container).await? {
        return on_thread(container.record(), root, work).await;
    }
    // Held to the end of the work: a start would mount the writable layer a second time.
    let _lifecycle = container.lifecycle.lock().await;
    if let Some(root) = running_root(container).await? {
        return on_thread(container.record(), root, work).await;
    }
    let snapshot = engine.store.snapshots().get(&container.id)?;
    let rootfs = Rootfs::Overlay {
        lowers: snapshot.lowers,
        upper: snapshot.upper,
        work: snapshot.work,
        volatile: false,
    };
    let id = container.id.clone();
    let mounted = tokio::task::spawn_blocking(move || ferry_runtime::detached_root(&rootfs)).await?;
    let root =
        mounted.map_err(|error| RootError::Mount { id, message: crate::error::error_chain(&error) })?;
    on_thread(container.record(), root, work).await
}

async fn running_root(container: &Container) -> Result<Option<OwnedFd>, RootError> {
    if !matches!(container.status(), Status::Running | Status::Paused) {
        return Ok(None);
    }
    let Some(link) = container.link() else { return Ok(None) };
    match link.rootfs().await {
        Ok(root) => Ok(Some(root)),
        // It ended in between: then its layers are free.
        Err(_) if !matches!(container.status(), Status::Running | Status::Paused) => Ok(None),
        Err(source) => Err(RootError::Link { id: container.id.clone(), source }),
    }
}

async fn on_thread<T: Send + 'static>(
    record: Record,
    root: OwnedFd,
    work: impl FnOnce(View) -> T + Send + 'static,
) -> Result<T, RootError> {
    tokio::task::spawn_blocking(move || {
        let mounts = mounts(&record)?;
        Ok(work(View::new(root, mounts, record.host_config.readonly_rootfs)))
    })
    .await?
}

/// Volumes and binds, opened. A tmpfs lives in the container alone; what is below it is seen instead.
fn mounts(record: &Record) -> Result<Vec<Mounted>, RootError> {
    let from_host = |plan: &&MountPlan| plan.kind != MountKind::Tmpfs && !plan.source.is_empty();
    let mut mounts = Vec::new();
    for plan in record.mounts.iter().filter(from_host) {
        let failed = |source: std::io::Error| RootError::Source { path: plan.source.clone(), source };
        let descriptor = match open_source(plan) {
            Ok(descriptor) => descriptor,
            // A bind source is made at the start at the latest; before that there is nothing to see.
            Err(rustix::io::Errno::NOENT) if plan.kind == MountKind::Bind => continue,
            Err(errno) => return Err(failed(errno.into())),
        };
        let path = plan.destination.trim_matches('/').as_bytes().to_vec();
        mounts.push(Mounted { path, descriptor, read_only: plan.read_only });
    }
    Ok(mounts)
}

fn open_source(plan: &MountPlan) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = rustix::fs::open(Path::new(&plan.source), flags, Mode::empty())?;
    if plan.subpath.is_empty() {
        return Ok(source);
    }
    // A directory inside a volume is the container's doing: it must not lead out of the volume.
    let how = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(source, Path::new(&plan.subpath), flags, Mode::empty(), how)
}
