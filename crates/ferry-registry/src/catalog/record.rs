//! The values of the tables: numbers as eight bytes, records as JSON.

use ferry_oci::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::database::DatabaseError;
use crate::manifest::Parsed;

/// What is kept about a manifest beside its bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Its type.
    pub media_type: String,
    /// Its own size.
    pub size: u64,
    /// Bytes of all that it lists.
    pub listed_size: u64,
    /// When it was pushed, in Unix seconds.
    pub pushed: u64,
    /// Blobs that it refers to.
    pub blobs: Vec<Digest>,
    /// Manifests that it lists.
    pub children: Vec<Digest>,
    /// What it is about.
    pub subject: Option<Digest>,
    /// The artifact's type.
    pub artifact_type: Option<String>,
}

impl ManifestRecord {
    /// The record of a manifest pushed now.
    pub fn new(parsed: Parsed, size: u64, pushed: u64) -> ManifestRecord {
        ManifestRecord {
            media_type: parsed.media_type,
            size,
            listed_size: parsed.listed_size,
            pushed,
            blobs: parsed.blobs,
            children: parsed.children,
            subject: parsed.subject,
            artifact_type: parsed.artifact_type,
        }
    }
}

/// What a tag points to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagRecord {
    /// The manifest.
    pub digest: Digest,
    /// When it was set, or last found to be right at its upstream; Unix seconds.
    pub set: u64,
}

/// A manifest in the trash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrashRecord {
    /// As it was.
    pub record: ManifestRecord,
    /// Tags that it had.
    pub tags: Vec<String>,
    /// When it was deleted, in Unix seconds.
    pub deleted: u64,
    /// Its entry among its subject's referrers.
    pub descriptor: Option<serde_json::Value>,
}

pub(super) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, DatabaseError> {
    serde_json::from_slice(bytes).map_err(|error| DatabaseError::corrupt(key, error))
}

pub(super) fn encode<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, DatabaseError> {
    serde_json::to_vec(value).map_err(|error| DatabaseError::corrupt(key, error))
}

/// A number as stored, whatever stands behind it; a shorter one was never written, and reads as zero.
pub(super) fn time_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default()
}

/// The text behind a number: a blob's place in a bucket, or who made an object. Empty where there is none.
pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(8..).unwrap_or_default()).into_owned()
}

/// A number with a text behind it.
pub(super) fn number_and_text(number: u64, text: &str) -> Vec<u8> {
    [number.to_le_bytes().as_slice(), text.as_bytes()].concat()
}
