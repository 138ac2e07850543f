//! Images: a config, its layers, and the names people know it by.
//!
//! Owns the tables `images` and `names`. The image id is the digest of the config. A name points
//! to one image; giving it to another leaves the first without (`<none>`). Look-ups are answered
//! from memory; a change is durable before it is visible.

mod annotation;
mod attestation;
mod changes;
mod error;
mod group;
mod history;
mod index;
mod record;
mod remove;
mod resolve;

use std::sync::Arc;

use ferry_oci::image::{Descriptor, ImageConfig};
use ferry_oci::{Digest, Reference};

pub use annotation::{Annotation, Annotations, Level};
pub use attestation::{Attestation, Attested, Claims, Part};
pub use changes::{ChangeError, apply_changes};
pub use error::{AnnotateError, DeleteConflict, RegisterError, RemoveError, ResolveError, TagError};
pub use history::HistoryEntry;
pub use index::Images;
pub use remove::{ImageUser, RemoveOptions, Removed};

/// An image that is whole in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the config.
    pub id: Digest,
    /// The parsed config.
    pub config: ImageConfig,
    /// The config as it arrived.
    pub config_bytes: Arc<[u8]>,
    /// The manifest that the image came with, if any.
    pub manifest: Option<Arc<StoredManifest>>,
    /// Layers, lowest first.
    pub layers: Vec<ImageLayer>,
    /// Sum of the layers' unpacked sizes in bytes.
    pub size: u64,
    /// When the image was made (RFC 3339), from the config.
    pub created: Option<String>,
    /// Tags as people write them, sorted: `busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Names by digest as people write them, sorted: `busybox@sha256:..`.
    pub repo_digests: Vec<String>,
    /// All names, sorted.
    pub references: Vec<Reference>,
    /// Image that this one was committed or built from, where known.
    pub parent: Option<Digest>,
    /// When a tag of it last changed (RFC 3339).
    pub last_tagged: Option<String>,
    /// When it was built here (RFC 3339). The config's own date is that of its newest file.
    pub built: Option<String>,
    /// What is claimed of it.
    pub attestations: Arc<[Attestation]>,
    /// What is noted in the documents that it is given away with.
    pub annotations: Arc<Annotations>,
    /// The images that it stands for, itself among them, in the order of their index; empty where that is itself alone.
    pub group: Arc<[Digest]>,
}

impl Image {
    /// Digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }

    /// When the image was made, in seconds since 1970: when it was built here, else what the config says,
    /// else 0.
    pub fn created_seconds(&self) -> i64 {
        self.built.as_deref().or(self.created.as_deref()).map_or(0, seconds_of)
    }
}

/// Seconds since 1970 of an RFC 3339 time; 0 when it is none.
pub(crate) fn seconds_of(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map_or(0, |time| time.as_second())
}

/// A manifest kept as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The blob as it arrived, when it was kept.
    pub blob: Option<Descriptor>,
    /// Sum of the file sizes in bytes.
    pub size: u64,
}

/// What [`Images::register`] takes. All layers must be imported before.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    /// The config's bytes; the image id is their digest.
    pub config: Vec<u8>,
    /// Manifest bytes with their media type, when the image came with one.
    pub manifest: Option<(String, Vec<u8>)>,
    /// Names to give: a tag moves here from another image, a digest is added.
    pub references: Vec<Reference>,
    /// Image that this one was derived from.
    pub parent: Option<Digest>,
    /// When it was built here (RFC 3339), if it was.
    pub built: Option<String>,
}

/// The chain ids of layers, lowest first, by which Docker names layers in their places.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::sha256_of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}
