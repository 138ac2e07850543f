//! Blobs.
use std::fs::File;
use std::io::Read;

use ferry_oci::Digest;

use crate::error::IoError;

/// The verified blobs.
pub struct Blobs {}

/// Why a blob did not come in or out.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not in the store.
    #[error("blob {0} is not in the store")]
    NotFound(Digest),
    /// The bytes are not those announced.
    #[error("blob has digest {found}, expected {expected}")]
    Digest {
        /// Announced.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// Reading the source failed.
    #[error("cannot read the blob's source")]
    Source(#[source] std::io::Error),
    /// More bytes than announced or allowed.
    #[error("blob is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Blobs {
    /// Whether a blob is there.
    pub fn contains(&self, _digest: &Digest) -> bool {
        unimplemented!()
    }
    /// Opens a blob and gives its size.
    pub fn open(&self, _digest: &Digest) -> Result<(File, u64), BlobError> {
        unimplemented!()
    }
    /// A small blob (a document) whole.
    pub fn read(&self, _digest: &Digest) -> Result<Vec<u8>, BlobError> {
        unimplemented!()
    }
    /// Takes a blob in; visible once its digest is verified.
    pub fn ingest(&self, _source: impl Read, _expected: &Digest) -> Result<u64, BlobError> {
        unimplemented!()
    }
    /// Takes bytes in and gives their digest.
    pub fn put(&self, _bytes: &[u8]) -> Result<Digest, BlobError> {
        unimplemented!()
    }
}
