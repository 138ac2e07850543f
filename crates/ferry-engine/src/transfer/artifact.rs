//! Small artifacts on registries, Compose files above all: fetched whole, and put from memory.
//!
//! Follows the OCI image specification 1.1, "Guidelines for Artifact Usage": an empty config, the kind in
//! `artifactType`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ferry_api::artifact::{Artifact, ArtifactFile};
use ferry_oci::image::{DOCUMENT_SIZE_MAX, Descriptor, Manifest, media_type};
use ferry_oci::{Digest, Reference};
use ferry_remote::{Credentials, Repository, UploadStart, transport};

use super::manifest::{ManifestError, find, parse};
use super::progress;
use super::push::{self, PushRequest};
use crate::engine::Engine;

/// Most files of one artifact.
const LAYERS_MAX: usize = 64;
/// The annotation with the name of an image that belongs to an artifact.
const IMAGE_NAME: &str = "org.opencontainers.image.ref.name";

/// Fetches an artifact and all of its files, verified. Images, whose layers are large, are refused.
pub async fn get(
    engine: &Engine,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Artifact, ManifestError> {
    let (repository, wanted) = find(engine, reference, credentials).await?;
    let found = repository.manifest(&wanted).await?;
    let manifest: Manifest = parse(reference, &found.bytes)?;
    let total: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    if total > DOCUMENT_SIZE_MAX || manifest.layers.len() > LAYERS_MAX {
        return Err(ManifestError::TooLarge { name: reference.familiar(), bytes: total });
    }
    let mut files = Vec::with_capacity(manifest.layers.len());
    for layer in &manifest.layers {
        let bytes = repository.document(layer).await?;
        files.push(ArtifactFile {
            media_type: layer.media_type.clone(),
            annotations: layer.annotations.clone(),
            data: STANDARD.encode(bytes),
        });
    }
    // Artifacts from before version 1.1 tell their kind by the config's type.
    let artifact_type = manifest.artifact_type.unwrap_or(manifest.config.media_type);
    let digest = found.digest.to_string();
    Ok(Artifact { artifact_type, digest, annotations: manifest.annotations, files, ..Artifact::default() })
}

/// Puts an artifact under a name, and beside it the images that belong to it; gives its manifest's digest.
pub async fn put(
    engine: &Arc<Engine>,
    reference: &Reference,
    artifact: Artifact,
    credentials: Option<&Credentials>,
) -> Result<Digest, ManifestError> {
    let (repository, name) = find(engine, reference, credentials).await?;
    let kind = if artifact.old_form { artifact.artifact_type.as_str() } else { media_type::OCI_EMPTY };
    let config = put_blob(&repository, kind, Bytes::from_static(b"{}")).await?;
    let mut layers = Vec::with_capacity(artifact.files.len());
    for file in artifact.files {
        let bytes = STANDARD
            .decode(&file.data)
            .map_err(|source| ManifestError::Data { name: file.media_type.clone(), source })?;
        let layer = put_blob(&repository, &file.media_type, bytes.into()).await?;
        layers.push(Descriptor { annotations: file.annotations, ..layer });
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: (!artifact.old_form).then_some(artifact.artifact_type),
        config,
        layers,
        subject: None,
        annotations: artifact.annotations,
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|source| ManifestError::Document { name: reference.familiar(), source })?;
    let whole = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256_of(&bytes), bytes.len() as u64);
    repository.put_manifest(&name, media_type::OCI_MANIFEST, bytes.into()).await?;
    if !artifact.images.is_empty() {
        let listed = push_images(engine, reference, &artifact.images, credentials).await?;
        put_index(&repository, &listed, &whole).await?;
    }
    Ok(whole.digest)
}

/// Brings images of the engine's into the artifact's repository, by their digests.
async fn push_images(
    engine: &Arc<Engine>,
    reference: &Reference,
    names: &[String],
    credentials: Option<&Credentials>,
) -> Result<Vec<Descriptor>, ManifestError> {
    let mut pushed = Vec::with_capacity(names.len());
    for name in names {
        let request = PushRequest {
            reference: reference.repository(),
            image: engine.store.images().resolve(name)?,
            credentials: credentials.cloned(),
            packed: None,
            alone: false,
        };
        // Whoever publishes is told of the whole alone.
        let (progress, _unread) = progress::channel();
        let mut image = push::send(engine, &request, &progress).await?;
        image.platform = Some(request.image.config.platform());
        image.annotations.insert(IMAGE_NAME.to_owned(), name.clone());
        pushed.push(image);
    }
    Ok(pushed)
}

/// Puts the index of the images that belong to an artifact, by its digest.
async fn put_index(
    repository: &Repository,
    images: &[Descriptor],
    whole: &Descriptor,
) -> Result<(), ManifestError> {
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": images,
        "subject": whole,
    });
    let bytes = index.to_string();
    let digest = Digest::sha256_of(bytes.as_bytes()).to_string();
    Ok(repository.put_manifest(&digest, media_type::OCI_INDEX, bytes.into()).await?)
}

async fn put_blob(
    repository: &Repository,
    media_type: &str,
    bytes: Bytes,
) -> Result<Descriptor, ManifestError> {
    let digest = Digest::sha256_of(&bytes);
    let size = bytes.len() as u64;
    if !repository.has_blob(&digest).await?
        && let UploadStart::Upload(upload) = repository.start_upload(None).await?
    {
        repository.finish_upload(&upload, &digest, size, || transport::full(bytes.clone())).await?;
    }
    Ok(Descriptor::new(media_type, digest, size))
}
