//! Why an image operation failed. The texts of conflicts are Docker's: clients look for them.

use ferry_oci::{Digest, ReferenceError};

use crate::error::{DatabaseError, IoError};
use crate::layer::LayerError;

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
    /// The manifest is not text.
    #[error("manifest of image {0} is not UTF-8")]
    Manifest(Digest),
    /// A layer cannot be made durable.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A blob cannot be kept.
    #[error(transparent)]
    Blob(#[from] crate::blob::BlobError),
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

/// Why an image was not tagged.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// There is no such image.
    #[error("No such image: {0}")]
    NotFound(Digest),
    /// A name with a digest is given by contents, not by people.
    #[error("refusing to create a tag with a digest reference")]
    Digest,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why an image was not annotated. The text about platforms is BuildKit's.
#[derive(Debug, thiserror::Error)]
pub enum AnnotateError {
    /// There is no such image.
    #[error("No such image: {0}")]
    NotFound(Digest),
    /// One is for another platform.
    #[error("invalid annotation: no platform {asked} found in source, which is for {built}")]
    Platform {
        /// What the annotation names.
        asked: String,
        /// What the image is for.
        built: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What stands against deleting an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteConflict {
    /// Another image was made from it and has no layers of its own without it.
    #[error("image has dependent child images")]
    Children,
    /// A running container uses it.
    #[error("image is being used by running container {0}")]
    Running(String),
    /// Names in several repositories point to it.
    #[error("image is referenced in multiple repositories")]
    Referenced,
    /// A stopped container uses it.
    #[error("image is being used by stopped container {0}")]
    Stopped(String),
}

impl DeleteConflict {
    /// Whether not even force helps.
    pub fn is_hard(&self) -> bool {
        matches!(self, DeleteConflict::Children | DeleteConflict::Running(_))
    }

    fn force(&self) -> &'static str {
        if self.is_hard() { "cannot be forced" } else { "must be forced" }
    }
}

/// Why an image was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The name names nothing.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The only name of an image that a container uses.
    #[error(
        "conflict: unable to remove repository reference {name:?} (must force) - container {container} is using its referenced image {image}"
    )]
    ReferenceInUse {
        /// The name as given.
        name: String,
        /// Short id of the container.
        container: String,
        /// Short id of the image.
        image: String,
    },
    /// The image is needed.
    #[error("conflict: unable to delete {image} ({}) - {conflict}", conflict.force())]
    Delete {
        /// Short id of the image.
        image: String,
        /// By what.
        conflict: DeleteConflict,
    },
    /// A layer cannot be removed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
