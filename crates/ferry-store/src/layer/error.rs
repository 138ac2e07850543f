//! Why a layer did not come in.

use std::io;

use ferry_oci::Digest;

use crate::error::{DatabaseError, IoError};
use crate::tar::TarError;

/// Why a layer did not come in; nothing of it is visible then.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The bytes are not those announced.
    #[error("layer has digest {found}, expected {expected}")]
    BlobDigest {
        /// Announced.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// The uncompressed bytes are not those announced.
    #[error("layer has diff id {found}, expected {expected}")]
    DiffId {
        /// Announced.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// Compressed with something else than gzip or zstd.
    #[error("layer is compressed with {0}, which is not supported (gzip, zstd and plain tar are)")]
    UnsupportedCompression(&'static str),
    /// The archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry cannot be made.
    #[error("cannot {action} entry {entry:?}")]
    Entry {
        /// What was tried.
        action: &'static str,
        /// The entry's name.
        entry: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An entry is not acceptable in a layer.
    #[error("refusing entry {entry:?}: {reason}")]
    Refused {
        /// The entry's name.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// A limit against archives that fill the disk.
    #[error("refusing entry {entry:?}: {what} exceeds the limit of {limit}")]
    Limit {
        /// The entry at which it was exceeded.
        entry: String,
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The source of the bytes failed after the archive's end.
    #[error("cannot read the layer to its end")]
    Source(#[source] io::Error),
    /// The layer is not in the store.
    #[error("layer {0} is not in the store")]
    NotFound(Digest),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
