//! Small artifacts on registries, Compose files above all: fetched whole, and put from memory.
//!
//! Follows the OCI image specification 1.1, "Guidelines for Artifact Usage": an empty config, the kind in
//! `artifactType`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ferry_api::artifact::{Artifact, ArtifactFile};
use ferry_oci::image::{DOCUMENT_SIZE_MAX, Descriptor, Manifest, media_type};
use ferry_oci::{Digest, Reference};
use ferry_remote::{Credentials, Repository, UploadStart, transport};

use super::manifest::{ManifestError, find, parse};
use crate::engine::Engine;

/// Most files of one artifact.
const LAYERS_MAX: usize = 64;

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
    Ok(Artifact { artifact_type, digest: found.digest.to_string(), annotations: manifest.annotations, files })
}

/// Puts an artifact under a name; gives its manifest's digest.
pub async fn put(
    engine: &Engine,
    reference: &Reference,
    artifact: Artifact,
    credentials: Option<&Credentials>,
) -> Result<Digest, ManifestError> {
    let (repository, name) = find(engine, reference, credentials).await?;
    let config = put_blob(&repository, media_type::OCI_EMPTY, Bytes::from_static(b"{}")).await?;
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
        artifact_type: Some(artifact.artifact_type),
        config,
        layers,
        subject: None,
        annotations: artifact.annotations,
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|source| ManifestError::Document { name: reference.familiar(), source })?;
    let digest = Digest::sha256_of(&bytes);
    repository.put_manifest(&name, media_type::OCI_MANIFEST, bytes.into()).await?;
    Ok(digest)
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
