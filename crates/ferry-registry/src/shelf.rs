//! Images that somebody else keeps, an engine, served without a second copy and pushed into it.
//!
//! Names, tags, manifests and blobs are asked for at each request. What is pushed lies here as always until its
//! manifest comes; then all of it is handed over as one archive, and the next sweep takes it from here.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
pub use ferry_oci::Digest;
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::json;

use crate::body::Body;
use crate::catalog::{ManifestRecord, Page, StoredManifest};
use crate::manifest::{self, OCI_INDEX, OCI_MANIFEST};
use crate::name::{Name, Reference};
use crate::refusal::{Code, Refusal};
use crate::registry::{Registry, now};

/// What comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;
/// Bytes as they come.
pub type Bits = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Blocks of a tar.
const BLOCK: u64 = 512;

/// Who keeps the images.
pub trait Shelf: Send + Sync + std::fmt::Debug {
    /// All repositories with their tags, sorted.
    fn images(&self) -> Later<'_, Vec<(String, Vec<String>)>>;
    /// A manifest with its type.
    fn manifest<'a>(&'a self, name: &'a str, reference: &'a str) -> Later<'a, Option<(String, Bytes)>>;
    /// The size of a blob that a repository has, and its bytes from the first to before the last.
    fn blob<'a>(
        &'a self,
        name: &'a str,
        digest: &'a Digest,
        part: Option<(u64, u64)>,
    ) -> Later<'a, Option<(u64, Bits)>>;
    /// Takes an image as an archive in OCI's layout.
    fn load(&self, archive: Bits) -> Later<'_, ()>;
}

fn fault(error: String) -> Refusal {
    Refusal::fault(error).status(http::StatusCode::BAD_GATEWAY)
}

/// A page of a sorted list.
fn page(all: impl Iterator<Item = String>, last: Option<&str>, limit: usize) -> Page {
    let mut names: Vec<String> = all.filter(|name| last.is_none_or(|last| name.as_str() > last)).collect();
    let more = names.len() > limit;
    names.truncate(limit);
    Page { names, more }
}

/// A manifest as it is served.
fn stored(media_type: String, bytes: &Bytes) -> Result<StoredManifest, Refusal> {
    let parsed = manifest::parse(Some(&media_type), bytes)?;
    let record = ManifestRecord::new(parsed, bytes.len() as u64, now());
    Ok(StoredManifest { digest: Digest::sha256_of(bytes), record, bytes: bytes.to_vec() })
}

impl Registry {
    /// A manifest of the shelf.
    pub(crate) async fn shelved_manifest(
        &self,
        shelf: &Arc<dyn Shelf>,
        name: &Name,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, Refusal> {
        let text = match reference {
            Reference::Tag(tag) => tag.clone(),
            Reference::Digest(digest) => digest.to_string(),
        };
        let found = shelf.manifest(name.as_str(), &text).await.map_err(fault)?;
        found.map(|(media_type, bytes)| stored(media_type, &bytes)).transpose()
    }

    /// Repositories of the shelf behind `last`.
    pub(crate) async fn shelved_names(
        shelf: &Arc<dyn Shelf>,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let images = shelf.images().await.map_err(fault)?;
        Ok(page(images.into_iter().map(|(name, _)| name), last, limit))
    }

    /// Tags of a repository of the shelf behind `last`; None where there is no such repository.
    pub(crate) async fn shelved_tags(
        shelf: &Arc<dyn Shelf>,
        name: &Name,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page>, Refusal> {
        let images = shelf.images().await.map_err(fault)?;
        let short = name.as_str().strip_prefix("library/").unwrap_or(name.as_str());
        let found = images.into_iter().find(|(own, _)| own == short);
        Ok(found.map(|(_, tags)| page(tags.into_iter(), last, limit)))
    }

    /// The size of a blob of the shelf.
    pub(crate) async fn shelved_size(
        shelf: &Arc<dyn Shelf>,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<u64>, Refusal> {
        let found = shelf.blob(name.as_str(), digest, Some((0, 0))).await.map_err(fault)?;
        Ok(found.map(|(size, _)| size))
    }

    /// A part of a blob of the shelf as an answer's body.
    pub(crate) async fn shelved_body(
        shelf: &Arc<dyn Shelf>,
        name: &Name,
        digest: &Digest,
        (start, end): (u64, u64),
    ) -> Result<Body, Refusal> {
        match shelf.blob(name.as_str(), digest, Some((start, end))).await.map_err(fault)? {
            Some((_, stream)) => Ok(Body::Coming { stream, length: end - start }),
            None => Err(Refusal::new(Code::BlobUnknown, format!("there is no blob {digest}"))),
        }
    }

    /// Hands an image over: what was pushed, and what the shelf had already.
    pub(crate) async fn shelve(
        &self,
        shelf: &Arc<dyn Shelf>,
        name: &Name,
        tags: &[String],
        record: &ManifestRecord,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        if !record.children.is_empty() || manifest::is_index(&record.media_type) {
            let text = "an engine keeps one platform of an image: push its manifest, not an index";
            return Err(Refusal::new(Code::Unsupported, text));
        }
        let Some(tag) = tags.first() else {
            return Err(Refusal::new(Code::Unsupported, "an engine keeps images by tag: push to one"));
        };
        let mut parts: Vec<Bits> = Vec::new();
        for digest in &record.blobs {
            let unknown = || {
                Refusal::new(Code::ManifestBlobUnknown, format!("{name} has no blob {digest}"))
                    .detail(json!({ "digest": digest }))
            };
            let (size, bits) = match self.catalog.blob(name, digest)? {
                Some(size) => (size, self.blob_bits(digest, size).await?),
                None => shelf.blob(name.as_str(), digest, None).await.map_err(fault)?.ok_or_else(unknown)?,
            };
            parts.push(file(&blob_path(digest), size, bits));
        }
        let own = Digest::sha256_of(bytes);
        parts.push(small(&blob_path(&own), bytes.to_vec()));
        let media_type = if record.media_type.is_empty() { OCI_MANIFEST } else { &record.media_type };
        let full = format!("{name}:{tag}");
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
            "mediaType": media_type, "digest": own, "size": bytes.len(),
            "annotations": { "io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag },
        }] });
        parts.push(small("index.json", index.to_string().into_bytes()));
        parts.push(small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
        parts.push(zeros(2 * BLOCK));
        shelf.load(Box::pin(stream::iter(parts).flatten())).await.map_err(|error| {
            Refusal::new(Code::ManifestInvalid, format!("the engine does not take the image: {error}"))
        })?;
        for digest in &record.blobs {
            self.catalog.delete_blob(name, digest).await?;
        }
        Ok(())
    }

    /// The bytes of a blob that was pushed here.
    async fn blob_bits(&self, digest: &Digest, size: u64) -> Result<Bits, Refusal> {
        use http_body_util::BodyExt as _;
        let body = self.blob_body(digest, size, (0, size), None).await?;
        Ok(Box::pin(body.into_data_stream()))
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn zeros(count: u64) -> Bits {
    let bytes = Bytes::from(vec![0; count as usize]);
    Box::pin(stream::iter((count > 0).then_some(Ok(bytes))))
}

fn small(path: &str, bytes: Vec<u8>) -> Bits {
    file(path, bytes.len() as u64, Box::pin(stream::iter([Ok(Bytes::from(bytes))])))
}

/// A file of a tar: header, bytes, and zeros up to the next block.
fn file(path: &str, size: u64, bits: Bits) -> Bits {
    let head = Bytes::from(header(path, size).to_vec());
    let rest = size.next_multiple_of(BLOCK) - size;
    Box::pin(stream::iter([Ok(head)]).chain(bits).chain(zeros(rest)))
}

/// A header (POSIX.1-2001, pax, "ustar Interchange Format"); sizes beyond its digits in GNU's binary form.
fn header(path: &str, size: u64) -> [u8; BLOCK as usize] {
    let mut block = [0u8; BLOCK as usize];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    match size < 1 << 33 {
        true => put(124, format!("{size:011o}\0").as_bytes()),
        false => {
            put(124, &[0x80]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_list() {
        let all = || ["a", "b", "c"].into_iter().map(str::to_owned);
        assert_eq!(page(all(), None, 2), Page { names: vec!["a".to_owned(), "b".to_owned()], more: true });
        assert_eq!(page(all(), Some("b"), 2), Page { names: vec!["c".to_owned()], more: false });
    }

    #[test]
    fn headers_have_their_sum() {
        let block = header("index.json", 1 << 40);
        let told = std::str::from_utf8(&block[148..154]).unwrap();
        let mut blank = block;
        blank[148..156].fill(b' ');
        let sum: u32 = blank.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(u32::from_str_radix(told, 8).unwrap(), sum);
        assert_eq!(block[124], 0x80);
    }
}
