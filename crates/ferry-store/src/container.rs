//! Container directories: records, logs and the writable layer of each container.
//!
//! Owns `containers/`. What is in a record is the engine's business, what is in `exit.json` and the
//! logs the shim's; here are their places, and writing that is whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::IoError;
use crate::files;
use crate::gc::Collector;
use crate::layer::Layers;
use crate::layout::Layout;

/// Largest record that is read back.
const RECORD_MAX: u64 = 64 << 20;

/// The paths of one container under the data root.
#[derive(Debug, Clone)]
pub struct ContainerDir {
    id: String,
    dir: PathBuf,
}

impl ContainerDir {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

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

    /// The json-file log; rotated ones have a number behind.
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

    /// Which layers the writable one lies on.
    pub(crate) fn snapshot_path(&self) -> PathBuf {
        self.dir.join("snapshot.json")
    }

    /// Which layers are mounted into it besides its root.
    pub(crate) fn mounted_path(&self) -> PathBuf {
        self.dir.join("mounted.json")
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

/// A container's id, and its record or why it cannot be read.
pub type FoundRecord = (String, Result<Vec<u8>, IoError>);

/// The container directories.
#[derive(Clone)]
pub struct Containers {
    layout: Arc<Layout>,
    layers: Arc<Layers>,
    collector: Arc<Collector>,
}

impl Containers {
    pub(crate) fn new(layout: &Arc<Layout>, layers: &Arc<Layers>, collector: &Arc<Collector>) -> Containers {
        Containers {
            layout: Arc::clone(layout),
            layers: Arc::clone(layers),
            collector: Arc::clone(collector),
        }
    }

    /// Makes a container's directory; one that is there is kept.
    pub fn create_dir(&self, id: &str) -> Result<ContainerDir, IoError> {
        let dir = self.dir(id);
        files::ensure_dir(dir.dir(), 0o710)?;
        Ok(dir)
    }

    /// The paths of a container, made or not. The id must be one that the engine made (hex).
    pub fn dir(&self, id: &str) -> ContainerDir {
        debug_assert!(is_id(id), "container ids are lower-case hex: {id:?}");
        ContainerDir { id: id.to_owned(), dir: self.layout.containers().join(id) }
    }

    /// Writes the record whole: temporary file, rename, and with `durable` fsync of both.
    pub fn write_record(&self, id: &str, bytes: &[u8], durable: bool) -> Result<(), IoError> {
        let dir = self.dir(id);
        files::write_atomic(&dir.record_path(), bytes, 0o600, durable)?;
        if durable {
            // The directory's own name may be as new as the record.
            files::sync_parent(dir.dir())?;
        }
        Ok(())
    }

    /// Every container's record by id; one that cannot be read gives its error.
    pub fn read_all(&self) -> Result<Vec<FoundRecord>, IoError> {
        let ids = files::list_dir(&self.layout.containers())?;
        let read = |id: String| {
            let bytes = files::read_limited(&self.dir(&id).record_path(), RECORD_MAX);
            (id, bytes)
        };
        Ok(ids.into_iter().filter(|id| is_id(id)).map(read).collect())
    }

    /// Removes a container's directory, writable layer included: gone from sight at once, emptied
    /// in the background. Layers that only it still needed go too. Idempotent.
    pub fn remove(&self, id: &str) -> Result<(), IoError> {
        self.layout.discard(self.dir(id).dir())?;
        let mounted = self.collector.forget_snapshot(&crate::snapshot::mounted_key(id));
        let mut diff_ids = self.collector.forget_snapshot(id).unwrap_or_default();
        diff_ids.extend(mounted.into_iter().flatten());
        if !diff_ids.is_empty()
            && let Err(error) = self.collector.collect(&self.layers, &diff_ids)
        {
            // The container is gone all the same; a later collection tries again.
            tracing::warn!(
                container = id,
                error = &error as &dyn std::error::Error,
                "layers are left behind"
            );
        }
        Ok(())
    }
}

/// Whether a name is one that the engine gives to containers.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
