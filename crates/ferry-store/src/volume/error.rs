//! Why volume operations fail.

use crate::error::{DatabaseError, IoError};

use super::NAME_MAX;

/// Why a volume operation failed. The texts are Docker's: clients look for them.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is none of this name.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// The name has a character that names must not have.
    #[error(
        "create {0}: {0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    Name(String),
    /// The name is too short or too long.
    #[error("create {name}: volume name is {length} characters long (2 to {NAME_MAX} are allowed)")]
    NameLength {
        /// The name.
        name: String,
        /// Its length.
        length: usize,
    },
    /// The driver is not `local`.
    #[error("error looking up volume plugin {0}: plugin {0:?} not found")]
    Driver(String),
    /// A driver option that the local driver does not have.
    #[error("create {name}: invalid option: {option:?}")]
    Option {
        /// The volume.
        name: String,
        /// The option.
        option: String,
    },
    /// A driver option is missing beside another.
    #[error("create {name}: missing required option: {option:?}")]
    MissingOption {
        /// The volume.
        name: String,
        /// The option.
        option: &'static str,
    },
    /// There is no snapshot of this name.
    #[error("volume {volume} has no snapshot {snapshot:?}")]
    NoSnapshot {
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
    },
    /// A snapshot of this name is there.
    #[error("volume {volume} has a snapshot {snapshot:?} already")]
    SnapshotExists {
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
    },
    /// A volume of this name is there.
    #[error("volume {0} exists already")]
    Exists(String),
    /// The volume has data that would be lost.
    #[error("volume {0} is not empty; its data would be replaced")]
    NotEmpty(String),
    /// Its data lies elsewhere.
    #[error("volume {name} is mounted from {device}: its data is not kept here")]
    Elsewhere {
        /// The volume.
        name: String,
        /// What is mounted.
        device: String,
    },
    /// Something is still mounted at its data directory.
    #[error("remove {0}: its data directory is still mounted")]
    Mounted(String),
    /// A size was asked for, which would need quotas.
    #[error("create {0}: quota size requested but no quota support")]
    NoQuota(String),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
