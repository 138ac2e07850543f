//! Push: blobs that the registry lacks, all at once, then the manifest. What came by pull goes out byte for byte, so
//! its digest stays.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use ferry_oci::image::{Descriptor, Manifest};
use ferry_oci::{Digest, Reference};
use ferry_remote::registry::UploadStart;
use ferry_remote::{Credentials, RemoteError, Repository, transport};
use ferry_store::blob::BlobError;
use ferry_store::image::Image;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::progress::{Meter, Progress};
use crate::engine::Engine;
use crate::error::{HttpStatus, error_chain};

/// Blobs in transit at once, as Docker has it.
const BLOBS_AT_ONCE: usize = 5;
/// Bytes read from disk for one piece of a request body.
const PIECE: usize = 256 * 1024;

/// What is to be pushed.
pub struct PushRequest {
    /// Under which name.
    pub reference: Reference,
    /// The image.
    pub image: Arc<Image>,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry's part.
    #[error(transparent)]
    Remote(#[from] RemoteError),
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
        source: ferry_store::archive::SaveError,
    },
    /// A worker thread ended before its time.
    #[error("a worker of the push ended before its time")]
    Worker(#[from] tokio::task::JoinError),
    /// Nobody waits any more.
    #[error("the client went away")]
    Cancelled,
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
        outcome = send_all(&engine, &request, &progress) => outcome,
        () = progress.closed() => Err(PushError::Cancelled),
    };
    match outcome {
        Ok((digest, size)) => {
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

async fn send_all(
    engine: &Arc<Engine>,
    request: &PushRequest,
    progress: &Progress,
) -> Result<(Digest, usize), PushError> {
    let (kind, manifest) = manifest_of(engine, &request.image).await?;
    let parsed: Manifest = serde_json::from_slice(&manifest).map_err(|error| RemoteError::Protocol {
        place: request.reference.familiar(),
        reason: format!("its own manifest cannot be read: {error}"),
    })?;
    let repository =
        engine.transfers.registry().repository(&request.reference, request.credentials.as_ref()).await?;
    let sources = mount_sources(&request.image, &request.reference);
    for layer in &parsed.layers {
        progress.status(layer.digest.short(), "Preparing");
    }
    let blobs = parsed.layers.iter().chain([&parsed.config]);
    let slots = Semaphore::new(BLOBS_AT_ONCE);
    let mut sending: FuturesUnordered<_> = blobs
        .map(|blob| send_blob(engine, &repository, blob, &request.image, &sources, progress, &slots))
        .collect();
    while let Some(sent) = sending.next().await {
        sent?;
    }
    drop(sending);
    let size = manifest.len();
    let digest = Digest::sha256_of(&manifest);
    let name = request.reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
    repository.put_manifest(&name, &kind, Bytes::from(manifest)).await?;
    remember_digest(engine, request, &digest).await;
    Ok((digest, size))
}

/// The image is now known under this digest too. Not being able to note that does not undo the push.
async fn remember_digest(engine: &Arc<Engine>, request: &PushRequest, digest: &Digest) {
    let (store, id) = (Arc::clone(&engine.store), request.image.id.clone());
    let reference = request.reference.with_digest(digest.clone());
    match tokio::task::spawn_blocking(move || store.images().tag(&id, &reference).map(drop)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("cannot note the digest of {}: {error}", request.reference),
        Err(error) => tracing::warn!("cannot note the digest of {}: {error}", request.reference),
    }
}

/// The manifest as it came; one made from the stored layers where the image was made here.
async fn manifest_of(engine: &Arc<Engine>, image: &Arc<Image>) -> Result<(String, Vec<u8>), PushError> {
    let (store, owned) = (Arc::clone(&engine.store), Arc::clone(image));
    let made = tokio::task::spawn_blocking(move || store.publishable_manifest(&owned)).await?;
    made.map_err(|source| PushError::Pack { image: image.id.clone(), source })
}

/// Other repositories on the same registry that should have the same layers.
fn mount_sources(image: &Image, target: &Reference) -> Vec<String> {
    let mut sources: Vec<String> = image
        .references
        .iter()
        .filter(|reference| reference.domain() == target.domain() && reference.path() != target.path())
        .map(|reference| reference.path().to_owned())
        .collect();
    sources.sort();
    sources.dedup();
    sources
}

async fn send_blob(
    engine: &Arc<Engine>,
    repository: &Repository,
    blob: &Descriptor,
    image: &Image,
    sources: &[String],
    progress: &Progress,
    slots: &Semaphore,
) -> Result<(), PushError> {
    // Nobody closes the semaphore, so a permit always comes.
    let _slot = slots.acquire().await;
    let id = blob.digest.short();
    let is_layer = blob.digest != image.id;
    let say = |status: &str| {
        if is_layer {
            progress.status(id, status);
        }
    };
    if is_foreign(blob) {
        say("Skipped foreign layer");
        return Ok(());
    }
    if repository.has_blob(&blob.digest).await? {
        say("Layer already exists");
        return Ok(());
    }
    let mount = sources.first().filter(|_| is_layer).map(|from| (&blob.digest, from.as_str()));
    let upload = match repository.start_upload(mount).await? {
        UploadStart::Mounted => {
            say(&format!("Mounted from {}", sources.first().map_or("", String::as_str)));
            return Ok(());
        }
        UploadStart::Upload(upload) => upload,
    };
    if !is_layer {
        let bytes = Bytes::copy_from_slice(&image.config_bytes);
        repository.finish_upload(&upload, &blob.digest, blob.size, || transport::full(bytes.clone())).await?;
        return Ok(());
    }
    let meter = Arc::new(Meter::new(progress, id, "Pushing", blob.size));
    // Opening the file first: a missing blob must be our error, not a broken request.
    let missing = |source| PushError::Blob { digest: blob.digest.clone(), source };
    engine.store.blobs().open(&blob.digest).map_err(missing)?;
    let body = || file_body(engine, &blob.digest, &meter);
    repository.finish_upload(&upload, &blob.digest, blob.size, body).await?;
    say("Pushed");
    Ok(())
}

/// Layers that their maker allows nobody to pass on stay where they are.
fn is_foreign(blob: &Descriptor) -> bool {
    blob.media_type.contains("foreign") || blob.media_type.contains("nondistributable")
}

/// A stored blob as a request body, read piece by piece on a blocking thread.
fn file_body(engine: &Arc<Engine>, digest: &Digest, meter: &Arc<Meter>) -> transport::Body {
    type Piece = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>;
    let (sender, mut pieces) = mpsc::channel::<Piece>(4);
    let (store, digest, meter) = (Arc::clone(&engine.store), digest.clone(), Arc::clone(meter));
    tokio::task::spawn_blocking(move || {
        let (mut source, _) = match store.blobs().open(&digest) {
            Ok(opened) => opened,
            Err(error) => return drop(sender.blocking_send(Err(error.into()))),
        };
        loop {
            let mut piece = vec![0; PIECE];
            let message = match source.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    meter.add(count as u64);
                    Ok(Frame::data(Bytes::from(piece)))
                }
                Err(error) => Err(error.into()),
            };
            if sender.blocking_send(message).is_err() {
                return;
            }
        }
    });
    StreamBody::new(stream::poll_fn(move |context| pieces.poll_recv(context))).boxed_unsync()
}
