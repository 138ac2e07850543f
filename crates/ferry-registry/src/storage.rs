//! Where blobs' bytes are: files below the root, or objects in a bucket.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use ferry_oci::Digest;
use futures_util::Stream;

use crate::body::{Body, Extent, Outbox};
use crate::bucket::Bucket;
use crate::catalog::LooseObject;
use crate::files::random_name;
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use crate::registry::{Registry, now};
use crate::upload::digest_of_file;

/// An object that was announced and has not become a blob for so long was left by an instance that is gone.
const ANNOUNCED_SECONDS: u64 = 24 * 60 * 60;

impl From<crate::bucket::client::BucketError> for Refusal {
    fn from(error: crate::bucket::client::BucketError) -> Refusal {
        Refusal::fault(error)
    }
}

/// What a blob's bytes turned out to be.
pub(crate) enum Found {
    /// They have this digest.
    Digest(Digest),
    /// They cannot be read.
    Unreadable(String),
}

impl Registry {
    /// Puts a verified file in its place and records it.
    pub(crate) async fn keep_blob(
        &self,
        path: PathBuf,
        size: u64,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Refusal> {
        let Some(bucket) = &self.bucket else {
            let _placing = self.placing.read().await;
            if self.catalog.blob_anywhere(digest)?.is_none() {
                let (files, to) = (self.files.clone(), digest.clone());
                let placed = tokio::task::spawn_blocking(move || files.place(&path, &to));
                placed.await.map_err(Refusal::fault)??;
            }
            return Ok(self.catalog.add_blob(name, digest, size, now()).await?);
        };
        while !self.catalog.link_blob(name, digest, now()).await? {
            let object = self.send_object(bucket, &path, digest).await?;
            if self.catalog.settle(Some(name), &object, size, false, now()).await? {
                break;
            }
        }
        Ok(())
    }

    /// Puts a verified file in the place of a damaged one.
    pub(crate) async fn replace_blob(&self, path: PathBuf, digest: &Digest) -> Result<(), Refusal> {
        let Some(bucket) = &self.bucket else {
            let _placing = self.placing.read().await;
            let (files, to) = (self.files.clone(), digest.clone());
            let placed = tokio::task::spawn_blocking(move || files.place(&path, &to));
            return Ok(placed.await.map_err(Refusal::fault)??);
        };
        let size = tokio::fs::metadata(&path).await?.len();
        loop {
            let object = self.send_object(bucket, &path, digest).await?;
            if self.catalog.settle(None, &object, size, true, now()).await? {
                return Ok(());
            }
        }
    }

    async fn send_object(
        &self,
        bucket: &Bucket,
        path: &std::path::Path,
        digest: &Digest,
    ) -> Result<LooseObject, Refusal> {
        let object = LooseObject { digest: digest.clone(), place: random_name() };
        self.catalog.announce(&object, &self.instance, now()).await?;
        bucket.put_blob(path, digest, &object.place).await?;
        Ok(object)
    }

    /// A part of a blob as an answer's body.
    pub(crate) async fn blob_body(
        &self,
        digest: &Digest,
        size: u64,
        (start, end): (u64, u64),
        outbox: Option<Outbox>,
    ) -> Result<Body, Refusal> {
        let length = end - start;
        if let Some(bucket) = &self.bucket {
            let place = self.catalog.place_of(digest)?.unwrap_or_default();
            if length == 0 {
                return Ok(Body::empty());
            }
            let got = bucket.get_blob(digest, &place, (length < size).then_some((start, end))).await;
            let stream = match got {
                // Swept by another instance in this moment.
                Err(error) if error.is_not_found() => {
                    return Err(Refusal::new(Code::BlobUnknown, format!("there is no blob {digest}")));
                }
                got => got?,
            };
            let stream: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> = Box::pin(stream);
            return Ok(Body::Coming { stream, length });
        }
        let file = Arc::new(self.files.open_blob(digest)?);
        // A file cut short from outside would break the connection in the middle; better to say it now.
        if file.metadata()?.len() != size {
            return Err(Refusal::fault(format!("blob {digest}: its file has not the {size} bytes it had")));
        }
        Ok(Body::File { extent: Extent { file, offset: start, length }, outbox })
    }

    /// Reads a blob again.
    pub(crate) async fn read_again(&self, digest: &Digest) -> Result<Found, Refusal> {
        if let Some(bucket) = &self.bucket {
            let place = self.catalog.place_of(digest)?.unwrap_or_default();
            return match bucket.digest_of(digest, &place).await {
                Ok(found) => Ok(Found::Digest(found)),
                Err(error) if error.is_not_found() => Ok(Found::Unreadable(error.to_string())),
                // A bucket that does not answer says nothing of what is in it.
                Err(error) => Err(error.into()),
            };
        }
        let (path, algorithm) = (self.files.blob(digest), digest.algorithm());
        let found = tokio::task::spawn_blocking(move || digest_of_file(&path, algorithm));
        Ok(match found.await.map_err(Refusal::fault)? {
            Ok(found) => Found::Digest(found),
            Err(error) => Found::Unreadable(error.to_string()),
        })
    }

    /// Removes objects that are no blobs; of this instance those too that it was sending when it ended.
    pub(crate) async fn clear_loose(&self, at_start: bool) -> Result<usize, Refusal> {
        let Some(bucket) = &self.bucket else { return Ok(0) };
        let before = now().saturating_sub(ANNOUNCED_SECONDS);
        let own = if at_start { self.instance.as_str() } else { "" };
        let objects = self.catalog.give_up(before, own).await?;
        for object in &objects {
            bucket.clear_place(&object.digest, &object.place).await?;
        }
        if !objects.is_empty() {
            self.catalog.forget_loose(&objects).await?;
        }
        Ok(objects.len())
    }
}
