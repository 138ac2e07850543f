//! One blob on its way to a registry: found there, mounted, or sent; a layer that is packed now is sent meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferry_oci::Digest;
use ferry_oci::image::Descriptor;
use ferry_remote::{RemoteError, Repository, UploadStart, transport};
use ferry_store::archive::SaveError;
use ferry_store::image::Image;
use ferry_store::publish::{PackAs, Packing};
use http::Uri;
use tokio::sync::{Semaphore, oneshot};

use super::source::{Growth, Source};
use super::{PushError, pack_error};
use crate::engine::Engine;
use crate::error::error_chain;
use crate::transfer::progress::{Meter, Progress};
use crate::transfer::pull::is_foreign;

/// Attempts at one blob, counted anew whenever bytes have arrived.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Layers whose tar is smaller are packed before it is asked whether the registry has them: that takes no time.
const SMALL: u64 = 4 << 20;

/// One push's blobs on their way.
pub struct Upload<'a> {
    pub engine: &'a Arc<Engine>,
    pub repository: &'a Repository,
    pub image: &'a Image,
    /// How layers are to be compressed.
    pub packed: Option<PackAs>,
    pub progress: &'a Progress,
    /// Blobs in transit.
    pub slots: Semaphore,
    /// Layers being packed: one, since that uses all cores.
    pub packing: Semaphore,
}

/// Ends the packing of a layer when it is dropped before that.
struct PackGuard(Arc<Growth>);

impl Drop for PackGuard {
    fn drop(&mut self) {
        if self.0.is_growing() {
            self.0.give_up();
        }
    }
}

impl Upload<'_> {
    /// Sends a blob that is here, unless the registry has it.
    pub async fn blob(&self, blob: &Descriptor, source: Option<&str>) -> Result<(), PushError> {
        // Nobody closes the semaphore, so a permit always comes.
        let _slot = self.slots.acquire().await;
        self.blob_as(blob.digest.short(), blob, source).await
    }

    async fn blob_as(&self, id: &str, blob: &Descriptor, source: Option<&str>) -> Result<(), PushError> {
        let is_layer = blob.digest != self.image.id;
        let say = |status: &str| {
            if is_layer {
                self.progress.status(id, status);
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
                let missing = |source| PushError::Blob { digest: blob.digest.clone(), source };
                let (file, size) = self.engine.store.blobs().open(&blob.digest).map_err(missing)?;
                let upload = self.send(id, blob.size, &Source::whole(file, size), upload).await?;
                self.repository.complete_upload(&upload, &blob.digest).await?;
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

    /// Sends a layer, packing it where that is to be done, and gives its blob.
    pub async fn layer_of(&self, diff_id: &Digest, source: Option<&str>) -> Result<Descriptor, PushError> {
        let _slot = self.slots.acquire().await;
        let store = &self.engine.store;
        let ready = store.ready_blob(diff_id, self.packed);
        let small = store.layer(diff_id).is_some_and(|layer| layer.tar_size < SMALL);
        let blob = match ready.map_err(|source| pack_error(self.image, SaveError::from(source)))? {
            Some(blob) => blob,
            // What is packed on request is not kept, so it can only be sent while it is packed.
            None if small && self.packed.is_none() => self.pack(diff_id).await?.1.await?,
            None => return self.pack_and_send(diff_id).await,
        };
        self.blob_as(diff_id.short(), &blob, source).await?;
        Ok(blob)
    }

    /// Starts to pack a layer: gives the file that grows, and what waits for its end.
    async fn pack(
        &self,
        diff_id: &Digest,
    ) -> Result<(Source, impl Future<Output = Result<Descriptor, PushError>>), PushError> {
        let turn = self.packing.acquire().await;
        let growth = Arc::new(Growth::default());
        let (begun, file) = oneshot::channel();
        let mut begun = Some(begun);
        let (store, layer, wanted) = (Arc::clone(&self.engine.store), diff_id.clone(), self.packed);
        let guard = PackGuard(Arc::clone(&growth));
        let telling = Arc::clone(&growth);
        let work = move || {
            let packed = store.pack_layer(&layer, wanted, |packing| {
                match packing {
                    Packing::Begun(file) => drop(begun.take().map(|begun| begun.send(file))),
                    Packing::Grown(written) => telling.reach(written),
                }
                match telling.is_given_up() {
                    true => Err(std::io::ErrorKind::Interrupted.into()),
                    false => Ok(()),
                }
            });
            match &packed {
                Ok(_) => telling.finish(),
                Err(_) => telling.give_up(),
            }
            packed
        };
        let working = tokio::task::spawn_blocking(work);
        let file = file.await;
        let ended = async move {
            let packed = working.await;
            drop((guard, turn));
            packed?.map_err(|source| pack_error(self.image, SaveError::from(source)))
        };
        match file {
            Ok(file) => Ok((Source::growing(file, growth), ended)),
            // It ended before it began: its own error says why.
            Err(_) => match ended.await {
                Err(error) => Err(error),
                Ok(blob) => Err(PushError::Unsent(blob.digest)),
            },
        }
    }

    /// The bytes go out as they are packed; their digest is told at the end.
    async fn pack_and_send(&self, diff_id: &Digest) -> Result<Descriptor, PushError> {
        let id = diff_id.short();
        let UploadStart::Upload(upload) = self.repository.start_upload(None).await? else {
            return Err(self.mounts_unasked().into());
        };
        let (source, packed) = self.pack(diff_id).await?;
        let (blob, upload) = tokio::try_join!(packed, self.send(id, 0, &source, upload))?;
        self.repository.complete_upload(&upload, &blob.digest).await?;
        self.progress.status(id, "Pushed");
        Ok(blob)
    }

    /// Sends bytes; where the connection breaks, goes on with the byte that the registry wants next. Gives the address at
    /// which the upload is to be completed.
    async fn send(&self, id: &str, total: u64, source: &Source, mut upload: Uri) -> Result<Uri, PushError> {
        let (mut sent, mut attempt) = (0, 0);
        loop {
            let meter = Arc::new(Meter::new(self.progress, id, "Pushing", total));
            meter.start_at(sent);
            let body = || source.body(sent, &meter);
            let error = match self.repository.append_upload(&upload, sent, source.size(), body).await {
                Ok(next) => return Ok(next),
                Err(error) => error,
            };
            attempt += 1;
            if !error.is_passing() || attempt >= ATTEMPTS {
                return Err(error.into());
            }
            tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt - 1)).await;
            tracing::info!("push of {id} broke off: {}", error_chain(&error));
            let before = sent;
            // To go on in the middle its end must be known.
            let size = source.whole_size().await.map_err(PushError::Read)?;
            (upload, sent) = self.resume(&upload, size).await?;
            if sent > before {
                attempt = 0;
            }
        }
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
            UploadStart::Mounted => Err(self.mounts_unasked()),
        }
    }

    fn mounts_unasked(&self) -> RemoteError {
        RemoteError::Protocol {
            place: self.repository.endpoint().authority.clone(),
            reason: "it mounts a blob where an upload was asked for".into(),
        }
    }
}
