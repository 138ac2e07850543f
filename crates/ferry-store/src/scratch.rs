//! Directories for the builder: scratch that goes away by itself, and cache mounts that stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::IoError;
use crate::files;
use crate::layout::Layout;
use crate::store::Store;

/// A private directory, removed when dropped (and by the next start, should this process die).
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    layout: Arc<Layout>,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.layout.discard(&self.path) {
            tracing::warn!(error = &error as &dyn std::error::Error, "scratch directory stays");
        }
    }
}

impl Store {
    /// A new empty directory on the data root's file system.
    pub fn scratch(&self) -> Result<Scratch, IoError> {
        let path = self.layout().scratch_dir().join(files::unique_name());
        files::create_dir(&path, 0o700)?;
        Ok(Scratch { path, layout: Arc::clone(self.layout()) })
    }

    /// The lasting directory of a cache mount, made where absent. The name must be plain hex.
    pub fn cache_directory(&self, name: &str) -> Result<PathBuf, IoError> {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit()), "names are hashes: {name:?}");
        let path = self.layout().caches().join(name);
        files::ensure_dir(&path, 0o755)?;
        Ok(path)
    }

    /// The file in which the builder keeps the digests of context files.
    pub fn context_index(&self) -> PathBuf {
        self.layout().context_index()
    }

    /// The names of all cache mounts.
    pub fn cache_directories(&self) -> Result<Vec<String>, IoError> {
        files::list_dir(&self.layout().caches())
    }

    /// Bytes that a cache mount takes on disk.
    pub fn cache_directory_size(&self, name: &str) -> Result<u64, IoError> {
        Ok(crate::usage::measure(&self.layout().caches().join(name))?.allocated)
    }

    /// Bytes of the file system that the data root is on.
    pub fn file_system_size(&self) -> Result<u64, IoError> {
        let path = self.layout().root();
        let stat = rustix::fs::statvfs(path).map_err(IoError::new("measure", path))?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    /// Removes a cache mount with all that is in it. Idempotent.
    pub fn remove_cache_directory(&self, name: &str) -> Result<bool, IoError> {
        self.layout().discard(&self.layout().caches().join(name))
    }
}
