//! Snapshots: the directories that overlayfs stacks for a container.
//!
//! Owns which layers lie under which container, so that they are not collected. Making one is two
//! directories and a small file, never a copy. Mounting is the runtime's business.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_oci::Digest;

use crate::container::{ContainerDir, Containers, is_id};
use crate::error::IoError;
use crate::files;
use crate::gc::Collector;
use crate::layer::{LayerError, Layers};
use crate::layout::Layout;

/// The directories of a container's overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Read-only layers, topmost first; never empty.
    pub lowers: Vec<PathBuf>,
    /// Writable layer.
    pub upper: PathBuf,
    /// Overlay's work directory.
    pub work: PathBuf,
}

/// Why a snapshot cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A layer is not in the store.
    #[error("layer {0} is not in the store")]
    MissingLayer(Digest),
    /// The container has none.
    #[error("container {0} has no snapshot")]
    NotFound(String),
    /// A layer that was only used here cannot be removed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The snapshots.
pub struct Snapshots {
    layout: Arc<Layout>,
    layers: Arc<Layers>,
    collector: Arc<Collector>,
    containers: Containers,
}

/// Under which name the layers stand that a container has mounted besides its root.
pub(crate) fn mounted_key(container_id: &str) -> String {
    format!("{container_id}/mounted")
}

/// Largest `snapshot.json`: 500 digests stay far below.
const RECORD_MAX: u64 = 1 << 20;

impl Snapshots {
    pub(crate) fn open(
        layout: &Arc<Layout>,
        layers: &Arc<Layers>,
        collector: &Arc<Collector>,
        containers: &Containers,
    ) -> Result<Snapshots, IoError> {
        let snapshots = Snapshots {
            layout: Arc::clone(layout),
            layers: Arc::clone(layers),
            collector: Arc::clone(collector),
            containers: containers.clone(),
        };
        for id in files::list_dir(&layout.containers())?.iter().filter(|id| is_id(id)) {
            let dir = containers.dir(id);
            snapshots.read(id, id, &dir.snapshot_path());
            snapshots.read(id, &mounted_key(id), &dir.mounted_path());
        }
        Ok(snapshots)
    }

    /// Takes note of layers that an earlier process wrote down.
    fn read(&self, id: &str, key: &str, path: &Path) {
        let diff_ids: Vec<Digest> = match files::read_limited(path, RECORD_MAX) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(diff_ids) => diff_ids,
                Err(error) => return tracing::error!(container = id, %error, "snapshot record is corrupt"),
            },
            Err(error) if error.is_not_found() => return,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                return tracing::error!(container = id, error, "snapshot record is unreadable");
            }
        };
        if let Err(missing) = self.collector.set_snapshot(key, &diff_ids, &self.layers) {
            tracing::error!(container = id, layer = %missing, "container is unusable: a layer is missing");
        }
    }

    /// Makes the writable layer of a container over layers, lowest first as in the image config.
    /// The container's directory is made where absent, a writable layer that is there is kept: of the small files that
    /// are made without fsync a power cut may take the contents, and then this is called again.
    pub fn prepare(&self, container_id: &str, diff_ids: &[Digest]) -> Result<Snapshot, SnapshotError> {
        self.collector
            .set_snapshot(container_id, diff_ids, &self.layers)
            .map_err(SnapshotError::MissingLayer)?;
        self.make(container_id, diff_ids).inspect_err(|_| {
            self.collector.forget_snapshot(container_id);
        })
    }

    fn make(&self, container_id: &str, diff_ids: &[Digest]) -> Result<Snapshot, SnapshotError> {
        let dir = self.containers.create_dir(container_id)?;
        let record = serde_json::to_vec(diff_ids).expect("digests are plain text");
        files::write_atomic(&dir.snapshot_path(), &record, 0o600, false)?;
        let lowers = self.lowers(diff_ids)?;
        self.make_upper(&dir, &lowers)?;
        files::ensure_dir(&dir.work(), 0o700)?;
        Ok(Snapshot { lowers, upper: dir.upper(), work: dir.work() })
    }

    /// Keeps layers that a container has mounted besides its root.
    pub fn keep_mounted(&self, container_id: &str, diff_ids: &[Digest]) -> Result<(), SnapshotError> {
        if diff_ids.is_empty() {
            return Ok(());
        }
        self.collector
            .set_snapshot(&mounted_key(container_id), diff_ids, &self.layers)
            .map_err(SnapshotError::MissingLayer)?;
        let record = serde_json::to_vec(diff_ids).expect("digests are plain text");
        let path = self.containers.dir(container_id).mounted_path();
        Ok(files::write_atomic(&path, &record, 0o600, false)?)
    }

    /// The container's root shows the attributes of the upper directory, so those of the image's
    /// root are copied to it.
    fn make_upper(&self, dir: &ContainerDir, lowers: &[PathBuf]) -> Result<(), IoError> {
        let upper = dir.upper();
        if upper.exists() {
            // Written down again after a power cut: what the container made of it stays.
            return Ok(());
        }
        let top = &lowers[0];
        let metadata = std::fs::metadata(top).map_err(IoError::new("stat", top))?;
        files::ensure_dir(&upper, metadata.mode() & 0o7777)?;
        std::os::unix::fs::chown(&upper, Some(metadata.uid()), Some(metadata.gid()))
            .map_err(IoError::new("set the owner of", &upper))
    }

    /// The snapshot of a container that was prepared before.
    pub fn get(&self, container_id: &str) -> Result<Snapshot, SnapshotError> {
        let not_found = || SnapshotError::NotFound(container_id.to_owned());
        let diff_ids = self.collector.snapshot(container_id).ok_or_else(not_found)?;
        let dir = self.containers.dir(container_id);
        Ok(Snapshot { lowers: self.lowers(&diff_ids)?, upper: dir.upper(), work: dir.work() })
    }

    /// The layers under a container, lowest first.
    pub fn diff_ids(&self, container_id: &str) -> Option<Vec<Digest>> {
        self.collector.snapshot(container_id)
    }

    /// The directories of layers (lowest first), topmost first, for read-only use; below them all
    /// lies the base layer with the mount points that every container has. A layer that is there twice counts once, at its
    /// upper place: overlayfs refuses it twice, and all it has at the lower place is hidden anyway.
    pub fn lowers(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut lowers = self.layer_paths(diff_ids)?;
        lowers.push(self.layout.base_layer());
        Ok(lowers)
    }

    /// The same without the base layer: the files of an image and nothing else.
    pub fn layer_paths(&self, diff_ids: &[Digest]) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut lowers = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids.iter().rev() {
            if self.layers.get(diff_id).is_none() {
                return Err(SnapshotError::MissingLayer(diff_id.clone()));
            }
            let tree = self.layers.tree(diff_id);
            if !lowers.contains(&tree) {
                lowers.push(tree);
            }
        }
        Ok(lowers)
    }

    /// Removes the writable layer of a container, and layers that only it still needed. Idempotent.
    pub fn remove(&self, container_id: &str) -> Result<(), SnapshotError> {
        let dir = self.containers.dir(container_id);
        self.layout.discard(&dir.upper())?;
        self.layout.discard(&dir.work())?;
        self.layout.discard(&dir.snapshot_path())?;
        if let Some(diff_ids) = self.collector.forget_snapshot(container_id) {
            self.collector.collect(&self.layers, &diff_ids)?;
        }
        Ok(())
    }
}
