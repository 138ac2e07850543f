//! Manifest lists on registries: looking at what is there, and putting a list with everything it lists.

use bytes::Bytes;
use ferry_oci::image::{Descriptor, ImageConfig, Manifest, media_type};
use ferry_oci::{Digest, Reference};
use ferry_remote::UploadStart;
use ferry_remote::{Credentials, RemoteError, Repository};
use http::StatusCode;
use serde::Deserialize;

use crate::engine::Engine;
use crate::error::HttpStatus;

/// A manifest or list as a registry has it.
pub struct Inspected {
    /// What and how large it is, with the platform of an image's manifest.
    pub descriptor: Descriptor,
    /// The document.
    pub bytes: Bytes,
}

/// A manifest list on its way to a registry.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutRequest {
    /// Its media type.
    pub media_type: String,
    /// The document.
    pub manifest: String,
    /// The manifests that it lists, by the name under which each was found.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// Why a list did not come to its registry.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The registry's part.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// An image that belongs to it was not pushed.
    #[error(transparent)]
    Push(#[from] super::push::PushError),
    /// An image that belongs to it is not here.
    #[error(transparent)]
    Image(#[from] ferry_store::ResolveError),
    /// A listed manifest is somewhere else.
    #[error("cannot use source images from a different registry than the target image: {0}")]
    OtherRegistry(String),
    /// A source's name is none.
    #[error("source `{name}` is no image name: {reason}")]
    Source {
        /// As given.
        name: String,
        /// Why.
        reason: String,
    },
    /// A document cannot be read.
    #[error("manifest {name} cannot be read")]
    Document {
        /// Whose.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An artifact is larger than a set of documents.
    #[error("{name} is no artifact of small files: its layers have {bytes} bytes")]
    TooLarge {
        /// Which.
        name: String,
        /// Of all layers.
        bytes: u64,
    },
    /// A file of an artifact came damaged.
    #[error("the data of a file of type {name} is not base64")]
    Data {
        /// The file's type.
        name: String,
        /// Why.
        #[source]
        source: base64::DecodeError,
    },
    /// A blob of a listed manifest is not where it should be.
    #[error(
        "cannot take blob {digest} over from {from}: the registry does not mount blobs of other repositories; push the image under the list's name first"
    )]
    NotMounted {
        /// Which.
        digest: Digest,
        /// From where.
        from: String,
    },
}

impl HttpStatus for ManifestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Remote(error) => error.status(),
            Self::Push(error) => error.status(),
            Self::Image(error) => error.status(),
            Self::OtherRegistry(_)
            | Self::Source { .. }
            | Self::Document { .. }
            | Self::TooLarge { .. }
            | Self::Data { .. } => StatusCode::BAD_REQUEST,
            Self::NotMounted { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Fetches a manifest or list; an image's manifest with the platform that its config names.
pub async fn inspect(
    engine: &Engine,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Inspected, ManifestError> {
    let (repository, wanted) = find(engine, reference, credentials).await?;
    let found = repository.manifest(&wanted).await?;
    let mut descriptor =
        Descriptor::new(found.media_type.clone(), found.digest.clone(), found.bytes.len() as u64);
    if media_type::is_manifest(&found.media_type) {
        let manifest: Manifest = parse(reference, &found.bytes)?;
        if media_type::is_image_config(&manifest.config.media_type) {
            let config = repository.document(&manifest.config).await?;
            let config: ImageConfig = parse(reference, &config)?;
            descriptor.platform = Some(config.platform());
        }
    }
    Ok(Inspected { descriptor, bytes: found.bytes })
}

/// Puts a list under a name, after the manifests that it lists are in the same repository.
pub async fn put(
    engine: &Engine,
    reference: &Reference,
    request: PutRequest,
    credentials: Option<&Credentials>,
) -> Result<Digest, ManifestError> {
    let target = engine.transfers.registry().repository(reference, credentials).await?;
    for name in &request.sources {
        let source = Reference::parse_normalized(name)
            .map_err(|error| ManifestError::Source { name: name.clone(), reason: error.to_string() })?;
        if source.domain() != reference.domain() {
            return Err(ManifestError::OtherRegistry(name.clone()));
        }
        if source.path() != reference.path() {
            take_over(engine, &source, &target, credentials).await?;
        }
    }
    let digest = Digest::sha256_of(request.manifest.as_bytes());
    let name = reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
    target.put_manifest(&name, &request.media_type, Bytes::from(request.manifest)).await?;
    Ok(digest)
}

/// Brings a manifest and its blobs from another repository of the same registry.
async fn take_over(
    engine: &Engine,
    source: &Reference,
    target: &Repository,
    credentials: Option<&Credentials>,
) -> Result<(), ManifestError> {
    let (repository, wanted) = find(engine, source, credentials).await?;
    let found = repository.manifest(&wanted).await?;
    if media_type::is_manifest(&found.media_type) {
        let manifest: Manifest = parse(source, &found.bytes)?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if target.has_blob(&blob.digest).await? {
                continue;
            }
            if let UploadStart::Upload(_) = target.start_upload(Some((&blob.digest, source.path()))).await? {
                let (digest, from) = (blob.digest.clone(), source.familiar_name());
                return Err(ManifestError::NotMounted { digest, from });
            }
        }
    }
    target.put_manifest(&found.digest.to_string(), &found.media_type, found.bytes).await?;
    Ok(())
}

pub(super) async fn find(
    engine: &Engine,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<(Repository, String), RemoteError> {
    let repository = engine.transfers.registry().repository(reference, credentials).await?;
    let wanted = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    Ok((repository, wanted))
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    reference: &Reference,
    bytes: &[u8],
) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes)
        .map_err(|source| ManifestError::Document { name: reference.familiar(), source })
}
