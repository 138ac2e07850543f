//! Blobs: fetching them whole or in part, and asking whether they are there.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use ferry_oci::Digest;
use ferry_oci::image::{DOCUMENT_SIZE_MAX, Descriptor};

use super::Repository;
use super::exchange::{digest_like, header_text, wrong};
use super::manifest::again_if_passing;
use crate::error::{RemoteError, show};
use crate::transport;

/// A blob on its way in.
pub struct Blob {
    /// Size of the whole blob in bytes, where the registry says.
    pub size: Option<u64>,
    /// Where in the blob the stream starts: what was asked for, or 0 where the registry knows no ranges.
    pub offset: u64,
    /// Whether the registry gives parts of it, as far as it says.
    pub has_ranges: bool,
    /// The bytes.
    pub stream: Pin<Box<dyn Stream<Item = Result<Bytes, RemoteError>> + Send>>,
}

impl Repository {
    /// Starts to fetch a blob, from an offset on. The bytes are not verified here: hash what arrives.
    ///
    /// # Errors
    /// Where there is none or the registry refuses.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<Blob, RemoteError> {
        self.blob_range(digest, offset, None).await
    }

    /// As [`Self::blob`], up to but not including `end`.
    ///
    /// # Errors
    /// As [`Self::blob`].
    pub async fn blob_range(
        &self,
        digest: &Digest,
        offset: u64,
        end: Option<u64>,
    ) -> Result<Blob, RemoteError> {
        let uri = match &self.only {
            Some(uri) => uri.clone(),
            None => self.endpoint.uri(&format!("{}/blobs/{digest}", self.path))?,
        };
        let mut headers = HeaderMap::new();
        if offset > 0 || end.is_some() {
            let end = end.map(|end| end.saturating_sub(1).to_string()).unwrap_or_default();
            let range = HeaderValue::from_str(&format!("bytes={offset}-{end}"))
                .map_err(|error| wrong(&uri, error))?;
            headers.insert(header::RANGE, range);
        }
        let response = self.send(Method::GET, uri.clone(), headers, transport::empty, "pull").await?;
        let length = header_text(response.headers(), &header::CONTENT_LENGTH).parse::<u64>().ok();
        let has_ranges = response.status() == StatusCode::PARTIAL_CONTENT
            || header_text(response.headers(), &header::ACCEPT_RANGES).eq_ignore_ascii_case("bytes");
        let (offset, size) = match response.status() {
            StatusCode::OK => (0, length),
            StatusCode::PARTIAL_CONTENT => {
                let range = header_text(response.headers(), &header::CONTENT_RANGE);
                let (start, size) = content_range(&range).ok_or_else(|| RemoteError::Protocol {
                    place: show(&uri),
                    reason: format!("Content-Range `{range}` where bytes from {offset} were asked for"),
                })?;
                (start, size)
            }
            StatusCode::NOT_FOUND => {
                return Err(RemoteError::BlobUnknown {
                    repository: self.name.clone(),
                    digest: digest.clone(),
                });
            }
            status => return Err(self.refusal(status, response, &uri).await),
        };
        let idle = self.transport.settings().idle_timeout;
        let stream = Box::pin(body_stream(response.into_body(), show(&uri), idle));
        Ok(Blob { size, offset, has_ranges, stream })
    }

    /// Fetches a small blob (a config) whole and verified; again after a short pause where the registry stumbles.
    ///
    /// # Errors
    /// Where there is none, it is not what its descriptor says, or larger than any document.
    pub async fn document(&self, blob: &Descriptor) -> Result<Vec<u8>, RemoteError> {
        if blob.size > DOCUMENT_SIZE_MAX {
            return Err(RemoteError::Protocol {
                place: self.endpoint.authority.clone(),
                reason: format!(
                    "document {} has {} bytes, more than {DOCUMENT_SIZE_MAX}",
                    blob.digest, blob.size
                ),
            });
        }
        again_if_passing(|| self.document_once(blob)).await
    }

    async fn document_once(&self, blob: &Descriptor) -> Result<Vec<u8>, RemoteError> {
        let place = || self.endpoint.authority.clone();
        let mut arriving = self.blob(&blob.digest, 0).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = arriving.stream.next().await {
            bytes.extend_from_slice(&piece?);
            if bytes.len() as u64 > blob.size {
                let reason = format!("blob {} is longer than the {} bytes announced", blob.digest, blob.size);
                return Err(RemoteError::Protocol { place: place(), reason });
            }
        }
        let found = digest_like(&blob.digest, &bytes);
        match found == blob.digest {
            true => Ok(bytes),
            false => Err(RemoteError::Digest { place: place(), expected: blob.digest.clone(), found }),
        }
    }

    /// Whether the repository has a blob.
    ///
    /// # Errors
    /// Where the registry refuses to say.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RemoteError> {
        let uri = self.endpoint.uri(&format!("{}/blobs/{digest}", self.path))?;
        let response =
            self.send(Method::HEAD, uri.clone(), HeaderMap::new(), transport::empty, "pull,push").await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(self.refusal(status, response, &uri).await),
        }
    }
}

/// Start and whole size of `bytes 5-9/100` or `bytes 5-9/*` (RFC 9110, section 14.4).
#[must_use]
pub fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let size = if size == "*" { None } else { Some(size.parse::<u64>().ok()?) };
    let fits = start <= end && size.is_none_or(|size| end < size);
    fits.then_some((start, size))
}

/// The pieces of a body as they come; an error ends the stream.
fn body_stream(
    body: Incoming,
    place: String,
    idle: Duration,
) -> impl Stream<Item = Result<Bytes, RemoteError>> + Send {
    stream::unfold(Some(body), move |body| {
        let place = place.clone();
        async move {
            let mut body = body?;
            loop {
                match tokio::time::timeout(idle, body.frame()).await {
                    Err(_) => return Some((Err(RemoteError::Timeout { place, after: idle }), None)),
                    Ok(None) => return None,
                    Ok(Some(Err(error))) => {
                        return Some((Err(RemoteError::Exchange { place, source: Box::new(error) }), None));
                    }
                    Ok(Some(Ok(frame))) => {
                        if let Ok(bytes) = frame.into_data() {
                            return Some((Ok(bytes), Some(body)));
                        }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        for (text, expected) in [
            ("bytes 0-9/10", Some((0, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes 5-4/10", None),
            ("bytes 5-10/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes 99999999999999999999-1/2", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
