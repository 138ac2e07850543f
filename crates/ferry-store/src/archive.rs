//! Load, save and import.
use ferry_oci::Digest;

use crate::error::IoError;
use crate::image::RegisterError;
use crate::layer::LayerError;

/// An image that a load brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// Names given to it, as people write them; empty when the archive named none.
    pub names: Vec<String>,
}

/// Progress of a load.
#[derive(Debug, Clone)]
pub enum LoadProgress {
    /// A layer is being unpacked.
    Layer {
        /// Which.
        diff_id: Digest,
        /// Bytes done.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// Why a load failed; nothing of the archive is visible then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Neither manifest.json nor index.json.
    #[error("no manifest.json and no index.json in the archive (neither docker-archive nor OCI layout)")]
    NotAnArchive,
    /// A layer failed.
    #[error("cannot load layer {name}")]
    Layer {
        /// Its name in the archive.
        name: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The image cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}
