//! What the service remembers on disk, below the run root.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::{BoundPort, SandboxPlan};

/// Version of the files; another one is not read.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// A sandbox as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) plan: SandboxPlan,
    pub(super) ports: Vec<BoundPort>,
    /// Inode of its network namespace, by which its processes are found again.
    pub(super) namespace: u64,
}

/// Interfaces that routed nothing before ferry switched forwarding on.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct ForwardingRecord {
    pub(super) uplinks: Vec<String>,
}

/// The folders of the service's state.
#[derive(Debug)]
pub(super) struct StateDirectory {
    root: PathBuf,
}

impl StateDirectory {
    pub(super) fn open(run_root: &Path) -> io::Result<Self> {
        let root = run_root.join("network");
        std::fs::create_dir_all(root.join("networks"))?;
        std::fs::create_dir_all(root.join("sandboxes"))?;
        Ok(Self { root })
    }

    fn path(&self, folder: &str, id: &str) -> PathBuf {
        self.root.join(folder).join(format!("{id}.json"))
    }

    /// Writes a record whole or not at all. A crash of the host empties the run
    /// root anyway, so nothing is synced.
    pub(super) fn write<T: Serialize>(&self, folder: &str, id: &str, content: &T) -> io::Result<()> {
        let path = self.path(folder, id);
        let temporary = path.with_extension("tmp");
        let bytes = serde_json::to_vec(&Versioned { version: VERSION, content })?;
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, &path)
    }

    pub(super) fn remove(&self, folder: &str, id: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path(folder, id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    pub(super) fn read<T: DeserializeOwned>(&self, folder: &str, id: &str) -> io::Result<Option<T>> {
        match std::fs::read(self.path(folder, id)) {
            Ok(bytes) => parse(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what is empty. Who was not forwarded for stays written down, for the next service.
    pub(super) fn remove_empty(&self) {
        for folder in ["networks", "sandboxes", ""] {
            // One that is not empty stays, and is meant to.
            let _ = std::fs::remove_dir(self.root.join(folder));
        }
    }

    /// Every record of a folder; unreadable ones are told and left out.
    pub(super) fn read_all<T: DeserializeOwned>(&self, folder: &str) -> io::Result<Vec<T>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(self.root.join(folder))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match std::fs::read(&path).and_then(|bytes| parse(&bytes)) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a network record is unreadable")
                }
            }
        }
        Ok(records)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let versioned: Versioned<T> = serde_json::from_slice(bytes)?;
    if versioned.version != VERSION {
        let text = format!("version {} is not {VERSION}", versioned.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(versioned.content)
}
