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

    /// The names of all cache mounts.
    pub fn cache_directories(&self) -> Result<Vec<String>, IoError> {
        files::list_dir(&self.layout().caches())
    }

    /// Removes a cache mount with all that is in it. Idempotent.
    pub fn remove_cache_directory(&self, name: &str) -> Result<bool, IoError> {
        self.layout().discard(&self.layout().caches().join(name))
    }
}
