//! Opening a container's root for a piece of blocking work.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use ferry_runtime::Rootfs;
use ferry_store::SnapshotError;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::view::{Mounted, View};
use crate::container::record::Record;
use crate::container::state::Status;
use crate::container::{Container, etc, stuck};
use crate::engine::Engine;
use crate::shim::LinkError;
use crate::spec::mounts::{MountKind, MountPlan};
use crate::volume::{self, MountError};

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
    /// A volume with driver options cannot be mounted.
    #[error(transparent)]
    Volume(#[from] MountError),
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
        return on_thread(engine, container, root, work).await;
    }
    // Held to the end of the work: a start would mount the writable layer a second time.
    let _lifecycle = container.lifecycle.lock().await;
    if let Some(root) = running_root(container).await? {
        return on_thread(engine, container, root, work).await;
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
    on_thread(engine, container, root, work).await
}

/// Runs `work` with the files of a container's image alone, as long as the container has never run: without those that
/// every container has besides, and without its mounts.
pub async fn with_image_root<T: Send + 'static>(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    work: impl FnOnce(View) -> T + Send + 'static,
) -> Result<T, RootError> {
    let snapshot = engine.store.snapshots().get(&container.id)?;
    let mut lowers = snapshot.lowers;
    // The lowest is the one that every container has.
    lowers.pop();
    let id = container.id.clone();
    // A start would mount the writable layer a second time.
    let _lifecycle = container.lifecycle.lock().await;
    let rootfs = match lowers.is_empty() {
        true => Rootfs::Directory(snapshot.upper),
        false => Rootfs::Overlay { lowers, upper: snapshot.upper, work: snapshot.work, volatile: false },
    };
    tokio::task::spawn_blocking(move || {
        let root = ferry_runtime::detached_root(&rootfs)
            .map_err(|error| RootError::Mount { id, message: crate::error::error_chain(&error) })?;
        Ok(work(View::new(root, Vec::new(), true)))
    })
    .await?
}

async fn running_root(container: &Container) -> Result<Option<OwnedFd>, RootError> {
    if !matches!(container.status(), Status::Running | Status::Paused) {
        return Ok(None);
    }
    let Some(link) = container.link() else { return Ok(None) };
    match stuck::answered(container, link.rootfs()).await {
        Ok(root) => Ok(Some(root)),
        // It ended in between: then its layers are free.
        Err(_) if !matches!(container.status(), Status::Running | Status::Paused) => Ok(None),
        Err(source) => Err(RootError::Link { id: container.id.clone(), source }),
    }
}

async fn on_thread<T: Send + 'static>(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    root: OwnedFd,
    work: impl FnOnce(View) -> T + Send + 'static,
) -> Result<T, RootError> {
    let (engine, container) = (Arc::clone(engine), Arc::clone(container));
    tokio::task::spawn_blocking(move || {
        let record = container.record();
        // Kept to the end of the work: a volume with driver options is mounted as long as it is held.
        let _held = volume::hold_all(&engine, &record)?;
        let mut mounts = own_files(&engine, &container, &record);
        mounts.extend(planned(&record)?);
        let mut view = View::new(root, Vec::new(), record.host_config.readonly_rootfs);
        for mounted in mounts {
            view.mount(mounted);
        }
        Ok(work(view))
    })
    .await?
}

/// `/etc/hosts` and its kin, which lie beside the container's layers. Before the first start there are none.
fn own_files(engine: &Engine, container: &Container, record: &Record) -> Vec<Mounted> {
    let covered = record.mounts.iter().any(|plan| plan.destination == "/etc");
    let places = etc::places(engine, container, record);
    let files = places.mounts(record).into_iter().filter(|_| !covered);
    let open = |(destination, source): (&str, &Path)| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::open(source, flags, Mode::empty()).ok()?;
        let path = destination.trim_matches('/').as_bytes().to_vec();
        Some(Mounted { path, descriptor, read_only: record.host_config.readonly_rootfs, own: true })
    };
    files.filter_map(open).collect()
}

/// Volumes, binds and, while the container runs, what exists in it alone (tmpfs, images).
fn planned(record: &Record) -> Result<Vec<Mounted>, RootError> {
    let mut mounts = Vec::new();
    for plan in &record.mounts {
        let failed = |source: std::io::Error| RootError::Source { path: plan.source.clone(), source };
        let opened = match plan.kind {
            MountKind::Bind | MountKind::Volume if !plan.source.is_empty() => open_source(plan),
            MountKind::Tmpfs | MountKind::Image | MountKind::Secret => open_inside(record.state.pid, plan),
            MountKind::Bind | MountKind::Volume => continue,
        };
        let descriptor = match opened {
            Ok(descriptor) => descriptor,
            // A bind source is made at the start at the latest; before that there is nothing to see. What
            // lives in the container goes with it.
            Err(_) if !matches!(plan.kind, MountKind::Bind | MountKind::Volume) => continue,
            Err(rustix::io::Errno::NOENT) if plan.kind == MountKind::Bind => continue,
            Err(errno) => return Err(failed(errno.into())),
        };
        let path = plan.destination.trim_matches('/').as_bytes().to_vec();
        mounts.push(Mounted { path, descriptor, read_only: plan.read_only, own: false });
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
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(source, Path::new(&plan.subpath), flags, Mode::empty(), how)
}

/// A place inside a running container, reached through its first process's root: wherever the container's
/// own links lead, it is somewhere inside.
fn open_inside(pid: i32, plan: &MountPlan) -> Result<OwnedFd, rustix::io::Errno> {
    if pid <= 0 {
        return Err(rustix::io::Errno::SRCH);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, Path::new(&plan.destination), flags, Mode::empty(), how)
}
