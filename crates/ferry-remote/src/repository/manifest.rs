//! Manifests and indexes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use serde::Deserialize;

use ferry_oci::Digest;
use ferry_oci::image::{DOCUMENT_SIZE_MAX, media_type};

use super::Repository;
use super::exchange::{digest_like, header_text, wrong};
use crate::error::{RemoteError, show};
use crate::transport;

/// Attempts at a document where the registry stumbles, and the pause before the second; each further one doubles it.
const DOCUMENT_ATTEMPTS: u32 = 4;
const DOCUMENT_FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A manifest or index as the registry sent it.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// Its media type.
    pub media_type: String,
    /// Digest of the bytes, verified.
    pub digest: Digest,
    /// The bytes, which digests depend on.
    pub bytes: Bytes,
}

impl Repository {
    /// Fetches a manifest or index by tag or digest; again after a short pause where the registry stumbles.
    ///
    /// # Errors
    /// Where there is none, or its bytes have another digest than asked for or announced.
    pub async fn manifest(&self, tag_or_digest: &str) -> Result<FetchedManifest, RemoteError> {
        again_if_passing(|| self.manifest_once(tag_or_digest)).await
    }

    async fn manifest_once(&self, tag_or_digest: &str) -> Result<FetchedManifest, RemoteError> {
        let uri = self.endpoint.uri(&format!("{}/manifests/{tag_or_digest}", self.path))?;
        let response =
            self.send(Method::GET, uri.clone(), accept_manifests(), transport::empty, "pull").await?;
        let status = response.status();
        if status == StatusCode::NOT_FOUND {
            return Err(self.manifest_unknown(tag_or_digest));
        }
        if !status.is_success() {
            return Err(self.refusal(status, response, &uri).await);
        }
        let media_type = header_text(response.headers(), &header::CONTENT_TYPE);
        let announced = Digest::parse(&header_text(response.headers(), &DOCKER_CONTENT_DIGEST)).ok();
        let limit = usize::try_from(DOCUMENT_SIZE_MAX).unwrap_or(usize::MAX);
        let body = http_body_util::Limited::new(response.into_body(), limit);
        let bytes = self.within_time(&uri, body.collect()).await?.to_bytes();
        let asked = Digest::parse(tag_or_digest).ok();
        for expected in [&asked, &announced].into_iter().flatten() {
            let found = digest_like(expected, &bytes);
            if found != *expected {
                return Err(RemoteError::Digest { place: show(&uri), expected: expected.clone(), found });
            }
        }
        let digest = asked.unwrap_or_else(|| Digest::sha256_of(&bytes));
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        Ok(FetchedManifest { media_type: media_type_of(media_type, &bytes), digest, bytes })
    }

    /// The digest that a tag stands for, without fetching the manifest; none where the registry does not say or has none.
    ///
    /// # Errors
    /// Where the registry refuses.
    pub async fn manifest_digest(&self, tag_or_digest: &str) -> Result<Option<Digest>, RemoteError> {
        let uri = self.endpoint.uri(&format!("{}/manifests/{tag_or_digest}", self.path))?;
        let response =
            self.send(Method::HEAD, uri.clone(), accept_manifests(), transport::empty, "pull").await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                Ok(Digest::parse(&header_text(response.headers(), &DOCKER_CONTENT_DIGEST)).ok())
            }
            status => Err(self.refusal(status, response, &uri).await),
        }
    }

    /// Stores a manifest under a tag or its digest.
    ///
    /// # Errors
    /// Where the registry refuses.
    pub async fn put_manifest(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RemoteError> {
        let uri = self.endpoint.uri(&format!("{}/manifests/{tag_or_digest}", self.path))?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_str(media_type).map_err(|error| wrong(&uri, error))?,
        );
        let response = self
            .send(Method::PUT, uri.clone(), headers, || transport::full(bytes.clone()), "pull,push")
            .await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(self.refusal(status, response, &uri).await),
        }
    }

    fn manifest_unknown(&self, tag_or_digest: &str) -> RemoteError {
        let joiner = if Digest::parse(tag_or_digest).is_ok() { '@' } else { ':' };
        RemoteError::ManifestUnknown { reference: format!("{}{joiner}{tag_or_digest}", self.name) }
    }
}

/// Tries something again, a few times, while it fails for reasons that pass.
pub(super) async fn again_if_passing<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, RemoteError>
where
    F: Future<Output = Result<T, RemoteError>>,
{
    let mut pause = DOCUMENT_FIRST_PAUSE;
    for _ in 1..DOCUMENT_ATTEMPTS {
        match attempt().await {
            // Without a connection another address may do better, so that is the caller's business.
            Err(error) if error.is_passing() && !matches!(error, RemoteError::Connect { .. }) => {
                tracing::debug!(%error, "again in {} ms", pause.as_millis());
            }
            outcome => return outcome,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    attempt().await
}

const DOCKER_CONTENT_DIGEST: header::HeaderName = header::HeaderName::from_static("docker-content-digest");

fn accept_manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let accepted = [
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST_LIST,
        media_type::OCI_MANIFEST,
        media_type::DOCKER_MANIFEST,
    ];
    for accepted in accepted {
        headers.append(header::ACCEPT, HeaderValue::from_static(accepted));
    }
    headers
}

/// The document's own word on what it is, where the header says nothing useful.
fn media_type_of(header: String, bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "mediaType", default)]
        media_type: String,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    if media_type::is_index(&header) || media_type::is_manifest(&header) {
        return header;
    }
    match serde_json::from_slice::<Head>(bytes) {
        Ok(head) if !head.media_type.is_empty() => head.media_type,
        Ok(head) if head.manifests.is_some() => media_type::OCI_INDEX.to_owned(),
        _ => header,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        assert_eq!(media_type_of("text/plain".into(), br#"{"mediaType":"x/y"}"#), "x/y");
        assert_eq!(media_type_of(String::new(), br#"{"manifests":[]}"#), media_type::OCI_INDEX);
        assert_eq!(media_type_of(media_type::OCI_MANIFEST.into(), b"{}"), media_type::OCI_MANIFEST);
    }
}
