//! Push: blobs that the registry lacks, all at once, then the manifest. What came by pull goes out byte for byte, so
//! its digest stays.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferry_oci::image::{Descriptor, Manifest, media_type};
use ferry_oci::{Digest, Reference};
use ferry_remote::registry::UploadStart;
use ferry_remote::{Credentials, RemoteError, Repository, transport};
use ferry_store::blob::BlobError;
use ferry_store::image::{Attested, Image};
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use super::progress::{Meter, Progress};
use crate::engine::Engine;
use crate::error::{HttpStatus, error_chain};

/// Blobs in transit at once, as Docker has it.
const BLOBS_AT_ONCE: usize = 5;
/// Attempts at one blob, counted anew whenever bytes have arrived.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
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
        source: ferry_store::archive::SaveError,
    },
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
    let sources = mount_sources(engine, &request.image, &request.reference);
    for layer in &parsed.layers {
        progress.status(layer.digest.short(), "Preparing");
    }
    let slots = Semaphore::new(BLOBS_AT_ONCE);
    let upload = Upload { engine, repository: &repository, image: &request.image, progress, slots: &slots };
    let layers = parsed.layers.iter().enumerate();
    let layers = layers.map(|(at, blob)| (blob, sources.get(at).and_then(Option::as_deref)));
    let blobs = layers.chain([(&parsed.config, None)]);
    let mut sending: FuturesUnordered<_> = blobs.map(|(blob, source)| upload.blob(blob, source)).collect();
    while let Some(sent) = sending.next().await {
        sent?;
    }
    drop(sending);
    let names = vec![request.reference.to_string()];
    let made = (kind, manifest);
    let (kind, document) = match Attested::of(&request.image, &made, &names) {
        None => made,
        Some(attested) => {
            put_attested(&repository, made, &attested).await?;
            (media_type::OCI_INDEX.to_owned(), attested.index)
        }
    };
    let size = document.len();
    let digest = Digest::sha256_of(&document);
    let name = request.reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
    repository.put_manifest(&name, &kind, Bytes::from(document)).await?;
    remember_digest(engine, request, &digest).await;
    Ok((digest, size))
}

/// Puts what an index of an image and its statements names: the image's manifest, and theirs with its blobs.
async fn put_attested(
    repository: &Repository,
    (kind, manifest): (String, Vec<u8>),
    attested: &Attested,
) -> Result<(), PushError> {
    for blob in &attested.blobs {
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
    for (kind, document) in [(kind.as_str(), &manifest), (media_type::OCI_MANIFEST, &attested.manifest)] {
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

/// The manifest as it came; one made from the stored layers where the image was made here.
async fn manifest_of(engine: &Arc<Engine>, image: &Arc<Image>) -> Result<(String, Vec<u8>), PushError> {
    let (store, owned) = (Arc::clone(&engine.store), Arc::clone(image));
    let made = tokio::task::spawn_blocking(move || store.publishable_manifest(&owned)).await?;
    made.map_err(|source| PushError::Pack { image: image.id.clone(), source })
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

/// One push's blobs on their way.
struct Upload<'a> {
    engine: &'a Arc<Engine>,
    repository: &'a Repository,
    image: &'a Image,
    progress: &'a Progress,
    slots: &'a Semaphore,
}

impl Upload<'_> {
    async fn blob(&self, blob: &Descriptor, source: Option<&str>) -> Result<(), PushError> {
        // Nobody closes the semaphore, so a permit always comes.
        let _slot = self.slots.acquire().await;
        let is_layer = blob.digest != self.image.id;
        let say = |status: &str| {
            if is_layer {
                self.progress.status(blob.digest.short(), status);
            }
        };
        if is_foreign(blob) {
            say("Skipped foreign layer");
            return Ok(());
        }
        if self.repository.has_blob(&blob.digest).await? {
            say("Layer already exists");
            return Ok(());
        }
        let mount = source.map(|from| (&blob.digest, from));
        match self.repository.start_upload(mount).await? {
            UploadStart::Mounted => say(&format!("Mounted from {}", source.unwrap_or_default())),
            UploadStart::Upload(upload) if is_layer => {
                self.layer(blob, upload).await?;
                say("Pushed");
            }
            UploadStart::Upload(upload) => {
                let bytes = Bytes::copy_from_slice(&self.image.config_bytes);
                let body = || transport::full(bytes.clone());
                self.repository.finish_upload(&upload, &blob.digest, blob.size, body).await?;
            }
        }
        Ok(())
    }

    /// Sends a layer; where the connection breaks, goes on with the byte that the registry wants next.
    async fn layer(&self, blob: &Descriptor, mut upload: Uri) -> Result<(), PushError> {
        // Opening the file first: a missing blob must be our error, not a broken request.
        let missing = |source| PushError::Blob { digest: blob.digest.clone(), source };
        self.engine.store.blobs().open(&blob.digest).map_err(missing)?;
        let (mut sent, mut attempt) = (0, 0);
        loop {
            let meter = Arc::new(Meter::new(self.progress, blob.digest.short(), "Pushing", blob.size));
            meter.start_at(sent);
            let body = || file_body(self.engine, &blob.digest, sent, &meter);
            let error = match self.repository.append_upload(&upload, sent, blob.size, body).await {
                Ok(next) => {
                    upload = next;
                    break;
                }
                Err(error) => error,
            };
            attempt += 1;
            if !error.is_passing() || attempt >= ATTEMPTS {
                return Err(error.into());
            }
            tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt - 1)).await;
            tracing::info!("push of {} broke off: {}", blob.digest, error_chain(&error));
            let before = sent;
            (upload, sent) = self.resume(&upload, blob.size).await?;
            if sent > before {
                attempt = 0;
            }
        }
        Ok(self.repository.complete_upload(&upload, &blob.digest).await?)
    }

    /// Where to go on; from the start where the registry has forgotten the upload.
    async fn resume(&self, upload: &Uri, size: u64) -> Result<(Uri, u64), RemoteError> {
        if let Ok((next, arrived)) = self.repository.upload_offset(upload).await
            && arrived < size
        {
            return Ok((next, arrived));
        }
        match self.repository.start_upload(None).await? {
            UploadStart::Upload(upload) => Ok((upload, 0)),
            UploadStart::Mounted => Err(RemoteError::Protocol {
                place: self.repository.endpoint().authority.clone(),
                reason: "it mounts a blob where an upload was asked for".into(),
            }),
        }
    }
}

/// Layers that their maker allows nobody to pass on stay where they are.
fn is_foreign(blob: &Descriptor) -> bool {
    blob.media_type.contains("foreign") || blob.media_type.contains("nondistributable")
}

/// A stored blob as a request body, read piece by piece on a blocking thread.
fn file_body(engine: &Arc<Engine>, digest: &Digest, offset: u64, meter: &Arc<Meter>) -> transport::Body {
    type Piece = Result<Frame<Bytes>, Box<dyn std::error::Error + Send + Sync>>;
    let (sender, mut pieces) = mpsc::channel::<Piece>(4);
    let (store, digest, meter) = (Arc::clone(&engine.store), digest.clone(), Arc::clone(meter));
    tokio::task::spawn_blocking(move || {
        let opened = store.blobs().open(&digest).map_err(|error| error.into());
        let sought = opened.and_then(|(mut file, _)| match file.seek(SeekFrom::Start(offset)) {
            Ok(_) => Ok(file),
            Err(error) => Err(error.into()),
        });
        let mut source = match sought {
            Ok(file) => file,
            Err(error) => return drop(sender.blocking_send(Err(error))),
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
