//! Push: blobs that the registry lacks, all at once, then the manifest. What came by pull goes out byte for byte, so
//! its digest stays; what was made here goes out while it is packed.
//!
//! - `upload`: one blob on its way.
//! - `source`: its bytes, from a file that may still grow.

mod source;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ferry_oci::image::{Descriptor, Manifest, media_type};
use ferry_oci::{Digest, Reference};
use ferry_remote::{Credentials, RemoteError, Repository, UploadStart, transport};
use ferry_store::archive::SaveError;
use ferry_store::blob::BlobError;
use ferry_store::image::{Attested, Image, Part};
use ferry_store::publish::PackAs;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use futures_util::{StreamExt, TryStreamExt};
use http::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;

use self::upload::Upload;
use super::progress::Progress;
use crate::engine::Engine;
use crate::error::{HttpStatus, error_chain};

/// Blobs in transit at once, as Docker has it.
const BLOBS_AT_ONCE: usize = 5;

/// What is to be pushed.
pub struct PushRequest {
    /// Under which name.
    pub reference: Reference,
    /// The image.
    pub image: Arc<Image>,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// How its layers are to be compressed.
    pub packed: Option<PackAs>,
    /// Of an image that stands for several platforms, this one alone.
    pub alone: bool,
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry's part.
    #[error(transparent)]
    Remote(RemoteError),
    /// Bytes that should be here are not.
    #[error("cannot read blob {digest}")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: BlobError,
    },
    /// A layer's blob cannot be made.
    #[error("cannot pack the layers of {image}")]
    Pack {
        /// The image.
        image: Digest,
        /// Why.
        #[source]
        source: SaveError,
    },
    /// The file that a layer is packed into cannot be read.
    #[error("cannot read a layer while it is packed")]
    Read(#[source] std::io::Error),
    /// A layer was packed without being told of.
    #[error("layer blob {0} was packed without being sent")]
    Unsent(Digest),
    /// A worker thread ended before its time.
    #[error("a worker of the push ended before its time")]
    Worker(#[from] tokio::task::JoinError),
    /// Nobody waits any more.
    #[error("the client went away")]
    Cancelled,
}

impl From<RemoteError> for PushError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error.of_push())
    }
}

impl HttpStatus for PushError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Remote(error) => error.status(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Pushes an image and tells the client; ends early where the client goes away.
pub async fn push(engine: Arc<Engine>, request: PushRequest, progress: Progress) {
    progress.line(&format!("The push refers to repository [{}]", request.reference.name()));
    let outcome = tokio::select! {
        outcome = send(&engine, &request, &progress) => outcome,
        () = progress.closed() => Err(PushError::Cancelled),
    };
    match outcome {
        Ok(Descriptor { digest, size, .. }) => {
            remember_digest(&engine, &request, &digest).await;
            let tag = request.reference.tag().unwrap_or("latest");
            progress.line(&format!("{tag}: digest: {digest} size: {size}"));
            progress.aux(json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size }));
            super::emit(&engine, "push", &request.reference.familiar());
        }
        Err(PushError::Cancelled) => {
            tracing::info!("push of {} given up: the client went away", request.reference)
        }
        Err(error) => progress.error(&error_chain(&error)),
    }
}

/// Pushes an image, by its digest where the name has no tag; gives what the registry has then.
pub(super) async fn send(
    engine: &Arc<Engine>,
    request: &PushRequest,
    progress: &Progress,
) -> Result<Descriptor, PushError> {
    let repository =
        engine.transfers.registry().repository(&request.reference, request.credentials.as_ref()).await?;
    let members = match request.alone {
        true => vec![Arc::clone(&request.image)],
        false => engine.store.images().members(&request.image),
    };
    let mut parts = Vec::with_capacity(members.len());
    for image in members {
        let manifest = send_one(engine, request, &repository, &image, progress).await?;
        parts.push(Part { image, manifest });
    }
    let names = vec![request.reference.to_string()];
    let (kind, document) = match Attested::of(&request.image, &parts, &names) {
        Some(attested) => {
            put_attested(&repository, &parts, &attested).await?;
            (media_type::OCI_INDEX.to_owned(), attested.index)
        }
        None => match parts.pop() {
            Some(part) => part.manifest,
            None => return Err(PushError::Cancelled),
        },
    };
    let pushed = Descriptor::new(&kind, Digest::sha256_of(&document), document.len() as u64);
    let name = request.reference.tag().map_or_else(|| pushed.digest.to_string(), str::to_owned);
    repository.put_manifest(&name, &kind, Bytes::from(document)).await?;
    Ok(pushed)
}

/// Sends the blobs of one image; gives the manifest that they make.
async fn send_one(
    engine: &Arc<Engine>,
    request: &PushRequest,
    repository: &Repository,
    image: &Arc<Image>,
    progress: &Progress,
) -> Result<(String, Vec<u8>), PushError> {
    let upload = Upload {
        engine,
        repository,
        image,
        packed: request.packed,
        progress,
        slots: Semaphore::new(BLOBS_AT_ONCE),
        packing: Semaphore::new(1),
    };
    match kept_manifest(engine, image, request.packed).await? {
        Some(kept) => {
            send_kept(&upload, &request.reference, &kept.1).await?;
            Ok(kept)
        }
        None => send_packed(&upload, &request.reference).await,
    }
}

/// Puts what an index of images and their statements names: the images' manifests, and theirs with their blobs.
async fn put_attested(repository: &Repository, parts: &[Part], attested: &Attested) -> Result<(), PushError> {
    for blob in attested.claims.iter().flat_map(|claims| &claims.blobs) {
        let digest = Digest::sha256_of(blob);
        if repository.has_blob(&digest).await? {
            continue;
        }
        if let UploadStart::Upload(upload) = repository.start_upload(None).await? {
            let bytes = Bytes::copy_from_slice(blob);
            let body = || transport::full(bytes.clone());
            repository.finish_upload(&upload, &digest, blob.len() as u64, body).await?;
        }
    }
    let own = parts.iter().map(|part| (part.manifest.0.as_str(), &part.manifest.1));
    let claims = attested.claims.iter().map(|claims| (media_type::OCI_MANIFEST, &claims.manifest));
    for (kind, document) in own.chain(claims) {
        let name = Digest::sha256_of(document).to_string();
        repository.put_manifest(&name, kind, Bytes::copy_from_slice(document)).await?;
    }
    Ok(())
}

/// The image is now known under this digest too. Not being able to note that does not undo the push.
async fn remember_digest(engine: &Arc<Engine>, request: &PushRequest, digest: &Digest) {
    let (store, id) = (Arc::clone(&engine.store), request.image.id.clone());
    let reference = request.reference.repository().with_digest(digest.clone());
    match tokio::task::spawn_blocking(move || store.images().note_digest(&id, &reference)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("cannot note the digest of {}: {error}", request.reference),
        Err(error) => tracing::warn!("cannot note the digest of {}: {error}", request.reference),
    }
}

/// What came by pull goes out as it came.
async fn send_kept(upload: &Upload<'_>, reference: &Reference, manifest: &[u8]) -> Result<(), PushError> {
    let parsed: Manifest = serde_json::from_slice(manifest).map_err(|error| RemoteError::Protocol {
        place: reference.familiar(),
        reason: format!("its own manifest cannot be read: {error}"),
    })?;
    let sources = mount_sources(upload.engine, upload.image, reference);
    for layer in &parsed.layers {
        upload.progress.status(layer.digest.short(), "Preparing");
    }
    let layers = parsed.layers.iter().enumerate();
    let layers = layers.map(|(at, blob)| (blob, sources.get(at).and_then(Option::as_deref)));
    let blobs = layers.chain([(&parsed.config, None)]);
    let mut sending: FuturesUnordered<_> = blobs.map(|(blob, source)| upload.blob(blob, source)).collect();
    while let Some(sent) = sending.next().await {
        sent?;
    }
    Ok(())
}

/// What was made here goes out while it is packed; its manifest is known when all layers are.
async fn send_packed(upload: &Upload<'_>, reference: &Reference) -> Result<(String, Vec<u8>), PushError> {
    let image = upload.image;
    let sources = mount_sources(upload.engine, image, reference);
    for layer in &image.layers {
        upload.progress.status(layer.diff_id.short(), "Preparing");
    }
    let config = Descriptor::new(media_type::OCI_CONFIG, image.id.clone(), image.config_bytes.len() as u64);
    let layers = image.layers.iter().zip(&sources);
    let layers = layers.map(|(layer, source)| upload.layer_of(&layer.diff_id, source.as_deref()));
    let sending: FuturesOrdered<_> = layers.collect();
    let (blobs, ()) = tokio::try_join!(sending.try_collect::<Vec<_>>(), upload.blob(&config, None))?;
    upload.engine.store.manifest_for(image, &blobs).map_err(|source| pack_error(image, source))
}

/// The manifest that it came with, where that can go out as it is.
async fn kept_manifest(
    engine: &Arc<Engine>,
    image: &Arc<Image>,
    packed: Option<PackAs>,
) -> Result<Option<(String, Vec<u8>)>, PushError> {
    let (store, wanted) = (Arc::clone(&engine.store), Arc::clone(image));
    let kept = tokio::task::spawn_blocking(move || store.kept_manifest(&wanted, packed)).await?;
    kept.map_err(|source| pack_error(image, source))
}

fn pack_error(image: &Image, source: impl Into<SaveError>) -> PushError {
    PushError::Pack { image: image.id.clone(), source: source.into() }
}

/// For each layer another repository on the same registry that should have it: one of this image's names, else one of
/// another image with that layer.
fn mount_sources(engine: &Engine, image: &Image, target: &Reference) -> Vec<Option<String>> {
    let mut by_layer = HashMap::new();
    let images = engine.store.images().list();
    for known in images.iter().filter(|known| known.id != image.id).chain([&Arc::new(image.clone())]) {
        let elsewhere = known
            .references
            .iter()
            .filter(|reference| reference.domain() == target.domain() && reference.path() != target.path());
        // The smallest name, so that two pushes do the same.
        let Some(path) = elsewhere.map(Reference::path).min() else { continue };
        for diff_id in known.diff_ids() {
            by_layer.insert(diff_id, path.to_owned());
        }
    }
    image.diff_ids().iter().map(|diff_id| by_layer.get(diff_id).cloned()).collect()
}
