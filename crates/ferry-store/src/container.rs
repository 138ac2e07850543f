//! Container directories.
use std::path::{Path, PathBuf};

use crate::error::IoError;

/// The paths of one container under the data root.
#[derive(Debug, Clone)]
pub struct ContainerDir {
    id: String,
    dir: PathBuf,
}

impl ContainerDir {
    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// The engine's record.
    pub fn record_path(&self) -> PathBuf {
        self.dir.join("record.json")
    }
    /// The shim's exit record.
    pub fn exit_path(&self) -> PathBuf {
        self.dir.join("exit.json")
    }
    /// The json-file log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}-json.log", self.id))
    }
    /// Writable layer.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }
    /// Overlay's work directory.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }
    /// `/etc/hostname` of the container.
    pub fn hostname_path(&self) -> PathBuf {
        self.dir.join("hostname")
    }
    /// `/etc/hosts` of the container.
    pub fn hosts_path(&self) -> PathBuf {
        self.dir.join("hosts")
    }
    /// `/etc/resolv.conf` of the container.
    pub fn resolv_conf_path(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }
}

/// The container directories.
pub struct Containers {}

impl Containers {
    /// Makes a container's directory.
    pub fn create_dir(&self, _id: &str) -> Result<ContainerDir, IoError> {
        unimplemented!()
    }
    /// The paths of a container, made or not.
    pub fn dir(&self, _id: &str) -> ContainerDir {
        unimplemented!()
    }
    /// Writes the record whole: temporary file, rename, and with `durable` fsync of both.
    pub fn write_record(&self, _id: &str, _bytes: &[u8], _durable: bool) -> Result<(), IoError> {
        unimplemented!()
    }
    /// Every container's record by id; one that cannot be read gives its error.
    pub fn read_all(&self) -> Result<Vec<(String, Result<Vec<u8>, IoError>)>, IoError> {
        unimplemented!()
    }
    /// Removes a container's directory: renamed at once, emptied in the background. Idempotent.
    pub fn remove(&self, _id: &str) -> Result<(), IoError> {
        unimplemented!()
    }
}
