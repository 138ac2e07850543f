//! Images.
use std::collections::HashSet;
use std::sync::Arc;

use ferry_oci::image::{Descriptor, ImageConfig};
use ferry_oci::{Digest, Reference, ReferenceError};

use crate::error::{DatabaseError, IoError};

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
    /// Image that this one was committed or built from, where known.
    pub parent: Option<Digest>,
    /// When a tag of it last changed (RFC 3339).
    pub last_tagged: Option<String>,
}

impl Image {
    /// Digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.diff_id.clone()).collect()
    }
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
}

/// What [`Images::register`] takes. All layers must be imported before.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The config's bytes; the image id is their digest.
    pub config: Vec<u8>,
    /// Manifest bytes with their media type, when the image came with one.
    pub manifest: Option<(String, Vec<u8>)>,
    /// Layer blobs, lowest first, one per diff id, or empty when none were kept.
    pub blobs: Vec<Option<Descriptor>>,
    /// Names to give: a tag moves here from another image, a digest is added.
    pub references: Vec<Reference>,
    /// Image that this one was derived from.
    pub parent: Option<Digest>,
}

/// Why an image was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The config is no image config.
    #[error("invalid image config {digest}")]
    Config {
        /// Digest of the config.
        digest: Digest,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The image needs a layer that is not in the store.
    #[error("image {image} needs layer {diff_id}, which is not in the store")]
    MissingLayer {
        /// The image.
        image: Digest,
        /// The layer.
        diff_id: Digest,
    },
    /// The number of blobs does not fit the number of layers.
    #[error("image {image} has {layers} layers but {blobs} layer blobs")]
    BlobCount {
        /// The image.
        image: Digest,
        /// Layers in the config.
        layers: usize,
        /// Blobs given.
        blobs: usize,
    },
    /// More layers than an image may have.
    #[error("image {image} has {layers} layers (at most {limit})")]
    TooManyLayers {
        /// The image.
        image: Digest,
        /// Layers in the config.
        layers: usize,
        /// The limit.
        limit: usize,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a text names no image.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No image has this name or id.
    #[error("No such image: {0}")]
    NotFound(String),
    /// Several images' ids start so.
    #[error("image id prefix {prefix} is ambiguous ({count} images)")]
    Ambiguous {
        /// The text given.
        prefix: String,
        /// How many match.
        count: usize,
    },
    /// The text can be no image name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

/// What a removal did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone (familiar form, digest names too).
    Untagged(String),
    /// An image (or a parent image without name) is gone.
    Deleted(Digest),
}

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's id.
    pub container_id: String,
    /// It runs; not even force removes the image.
    pub running: bool,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Remove in spite of several names or stopped containers.
    pub force: bool,
    /// Keep parents without names.
    pub no_prune: bool,
}

/// Why an image was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The name names nothing.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The id has names in several repositories.
    #[error(
        "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    )]
    SeveralRepositories {
        /// Short id.
        short: String,
    },
    /// A container uses it.
    #[error("conflict: unable to {action} {name} ({}) - {reason}", if *forced { "cannot be forced" } else { "must be forced" })]
    InUse {
        /// `delete` or `remove repository reference`.
        action: &'static str,
        /// What was to be removed, as Docker writes it.
        name: String,
        /// Force does not help.
        forced: bool,
        /// By whom it is used.
        reason: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// One line of an image's history, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// Image id for the newest line, None (`<missing>`) for the others.
    pub id: Option<Digest>,
    /// When, seconds since 1970.
    pub created: i64,
    /// By which command.
    pub created_by: String,
    /// Tags of the image, on the newest line.
    pub tags: Vec<String>,
    /// Size of the layer made, 0 for none.
    pub size: u64,
    /// A remark.
    pub comment: String,
}

/// The images of a store.
pub struct Images {}

impl Images {
    /// All images, newest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        unimplemented!()
    }
    /// The image with this id.
    pub fn get(&self, _id: &Digest) -> Option<Arc<Image>> {
        unimplemented!()
    }
    /// The image that a person names: `busybox`, `busybox:1`, an id or its prefix, `name@digest`.
    pub fn resolve(&self, _name: &str) -> Result<Arc<Image>, ResolveError> {
        unimplemented!()
    }
    /// Makes an image of a config whose layers are in the store.
    pub fn register(&self, _registration: Registration) -> Result<Arc<Image>, RegisterError> {
        unimplemented!()
    }
    /// Gives an image a name, taking it from the image that had it (returned).
    pub fn tag(&self, _id: &Digest, _reference: &Reference) -> Result<Option<Digest>, RemoveError> {
        unimplemented!()
    }
    /// Takes a name away; true when it was there.
    pub fn untag(&self, _reference: &Reference) -> Result<bool, DatabaseError> {
        unimplemented!()
    }
    /// Docker's `rmi`: removes a name, and the image with the last one.
    pub fn remove(
        &self,
        _name: &str,
        _options: RemoveOptions,
        _users: &dyn Fn(&Digest) -> Vec<ImageUser>,
    ) -> Result<Vec<Removed>, RemoveError> {
        unimplemented!()
    }
    /// Removes images without names (or, with `all`, without users), given those in use.
    pub fn prune(
        &self,
        _keep: &dyn Fn(&Image) -> bool,
        _in_use: &HashSet<Digest>,
    ) -> Result<Vec<Removed>, RemoveError> {
        unimplemented!()
    }
    /// The history, newest first.
    pub fn history(&self, _image: &Image) -> Vec<HistoryEntry> {
        unimplemented!()
    }
}
