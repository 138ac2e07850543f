//! Snapshots.
use std::path::PathBuf;

use ferry_oci::Digest;

use crate::error::IoError;

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
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The snapshots.
pub struct Snapshots {}

impl Snapshots {
    /// Makes the writable layer of a container over layers, lowest first as in the image config.
    pub fn prepare(&self, _container_id: &str, _diff_ids: &[Digest]) -> Result<Snapshot, SnapshotError> {
        unimplemented!()
    }
    /// The snapshot of a container that was prepared before.
    pub fn get(&self, _container_id: &str, _diff_ids: &[Digest]) -> Result<Snapshot, SnapshotError> {
        unimplemented!()
    }
    /// The directories of layers, topmost first, for read-only use.
    pub fn lowers(&self, _diff_ids: &[Digest]) -> Result<Vec<PathBuf>, SnapshotError> {
        unimplemented!()
    }
    /// Removes the writable layer of a container. Idempotent.
    pub fn remove(&self, _container_id: &str) -> Result<(), IoError> {
        unimplemented!()
    }
}
