//! Layers.
use ferry_oci::Digest;
use ferry_oci::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::error::{DatabaseError, IoError};

/// What is known of an unpacked layer (also its `meta.json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Sum of the file sizes in bytes, what Docker calls the layer's size.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// Number of entries.
    pub entries: u64,
    /// The blob as it arrived, when it was kept.
    pub blob: Option<Descriptor>,
    /// Directories that the tar implied but did not describe.
    #[serde(default)]
    pub implicit_directories: Vec<String>,
    /// When it came in, RFC 3339.
    pub created: String,
}

/// How a layer comes in.
#[derive(Debug, Clone, Default)]
pub struct LayerOptions {
    /// Refuse any other uncompressed digest.
    pub diff_id: Option<Digest>,
    /// Refuse any other digest of the bytes as they arrive.
    pub blob_digest: Option<Digest>,
    /// Media type to record with the blob; worked out from the bytes when absent.
    pub media_type: Option<String>,
    /// Do not keep the arriving bytes.
    pub discard_blob: bool,
}

/// Why a layer did not come in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
