//! Volumes.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{DatabaseError, IoError};

/// Label of volumes that got no name from a person.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// A volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Always `local`.
    pub driver: String,
    /// Driver options (`type`, `o`, `device`).
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When, RFC 3339.
    pub created: String,
    /// Its data directory on the host.
    pub mountpoint: PathBuf,
}

/// Why a volume operation failed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// There is none of this name.
    #[error("get {0}: no such volume")]
    NotFound(String),
    /// The name has a character or length that names must not have.
    #[error(
        "create {0}: {0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    Name(String),
    /// The driver is not `local`.
    #[error("error looking up volume plugin {0}: plugin \"{0}\" not found")]
    Driver(String),
    /// A driver option that the local driver does not have.
    #[error("create {name}: invalid option: {option:?}")]
    Option {
        /// The volume.
        name: String,
        /// The option.
        option: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What [`Volumes::create`] takes.
#[derive(Debug, Clone, Default)]
pub struct VolumeSpec {
    /// The name; a random one when absent.
    pub name: Option<String>,
    /// The driver; `local` when absent.
    pub driver: Option<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The volumes.
pub struct Volumes {}

impl Volumes {
    /// Makes a volume, or gives the one of this name.
    pub fn create(&self, _spec: VolumeSpec) -> Result<Arc<Volume>, VolumeError> {
        unimplemented!()
    }
    /// The volume of this name.
    pub fn get(&self, _name: &str) -> Result<Arc<Volume>, VolumeError> {
        unimplemented!()
    }
    /// All volumes by name.
    pub fn list(&self) -> Vec<Arc<Volume>> {
        unimplemented!()
    }
    /// Removes a volume and its data; whether it is in use is the caller's knowledge.
    pub fn remove(&self, _name: &str) -> Result<(), VolumeError> {
        unimplemented!()
    }
}
