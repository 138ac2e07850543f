//! Uploads of blobs: mounted from another repository, in one piece, or going on where they broke off.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use ferry_oci::Digest;

use super::Repository;
use super::exchange::{header_text, wrong};
use crate::authorization::percent_encode;
use crate::error::RemoteError;
use crate::transport::{self, Body};

/// What became of the start of an upload.
#[derive(Debug, Clone)]
pub enum UploadStart {
    /// The registry took the blob over from another of its repositories.
    Mounted,
    /// Send the bytes here.
    Upload(Uri),
}

impl Repository {
    /// Starts an upload, asking the registry to take the blob from another repository where one is named.
    ///
    /// # Errors
    /// Where the registry refuses.
    pub async fn start_upload(&self, mount: Option<(&Digest, &str)>) -> Result<UploadStart, RemoteError> {
        let mut path = format!("{}/blobs/uploads/", self.path);
        let mut scopes = vec![format!("repository:{}:pull,push", self.path)];
        if let Some((digest, from)) = mount {
            path.push_str(&format!("?mount={digest}&from={}", percent_encode(from)));
            scopes.push(format!("repository:{from}:pull"));
        }
        let uri = self.endpoint.uri(&path)?;
        let response =
            self.send_for(Method::POST, uri.clone(), HeaderMap::new(), transport::empty, &scopes).await?;
        match response.status() {
            StatusCode::CREATED => Ok(UploadStart::Mounted),
            StatusCode::ACCEPTED => Ok(UploadStart::Upload(self.location(&response, &uri)?)),
            status => Err(self.refusal(status, response, &uri).await),
        }
    }

    /// Sends a whole blob to an upload's address, in one request. `body` is asked for anew where the request must be
    /// sent again.
    ///
    /// # Errors
    /// Where the registry refuses, or computes another digest.
    pub async fn finish_upload(
        &self,
        upload: &Uri,
        digest: &Digest,
        size: u64,
        body: impl Fn() -> Body,
    ) -> Result<(), RemoteError> {
        let joiner = if upload.query().is_some() { '&' } else { '?' };
        let uri: Uri = format!("{upload}{joiner}digest={}", percent_encode(&digest.to_string()))
            .parse()
            .map_err(|error: http::uri::InvalidUri| wrong(upload, error))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        let response = self.send(Method::PUT, uri.clone(), headers, body, "pull,push").await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(self.refusal(status, response, &uri).await),
        }
    }

    /// Sends the rest of a blob, from `offset` on, to an upload's address; gives the address to go on at. Its size need
    /// not be known as long as it is sent from the start.
    ///
    /// # Errors
    /// Where the registry refuses or the exchange breaks off: then ask [`Self::upload_offset`].
    pub async fn append_upload(
        &self,
        upload: &Uri,
        offset: u64,
        size: Option<u64>,
        body: impl Fn() -> Body,
    ) -> Result<Uri, RemoteError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if let Some(size) = size {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size.saturating_sub(offset)));
        }
        if let Some(size) = size.filter(|_| offset > 0) {
            let range = format!("{offset}-{}", size.saturating_sub(1));
            let range = HeaderValue::from_str(&range).map_err(|error| wrong(upload, error))?;
            headers.insert(header::CONTENT_RANGE, range);
        }
        let response = self.send(Method::PATCH, upload.clone(), headers, body, "pull,push").await?;
        match response.status() {
            status if status.is_success() => self.next_location(&response, upload),
            status => Err(self.refusal(status, response, upload).await),
        }
    }

    /// How many bytes of an upload have arrived, and the address to go on at.
    ///
    /// # Errors
    /// Where the registry knows nothing of the upload any more.
    pub async fn upload_offset(&self, upload: &Uri) -> Result<(Uri, u64), RemoteError> {
        let response =
            self.send(Method::GET, upload.clone(), HeaderMap::new(), transport::empty, "pull,push").await?;
        match response.status() {
            status if status.is_success() => {
                let range = header_text(response.headers(), &header::RANGE);
                Ok((self.next_location(&response, upload)?, arrived(&range)))
            }
            status => Err(self.refusal(status, response, upload).await),
        }
    }

    /// Says that all bytes of an upload were sent.
    ///
    /// # Errors
    /// Where the registry computes another digest.
    pub async fn complete_upload(&self, upload: &Uri, digest: &Digest) -> Result<(), RemoteError> {
        self.finish_upload(upload, digest, 0, transport::empty).await
    }

    fn next_location(&self, response: &Response<Incoming>, upload: &Uri) -> Result<Uri, RemoteError> {
        match response.headers().contains_key(header::LOCATION) {
            true => self.location(response, upload),
            false => Ok(upload.clone()),
        }
    }
}

/// Bytes that have arrived by an upload's `Range: 0-N`; a registry without any says `0-0`, `0--1` or nothing.
fn arrived(range: &str) -> u64 {
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    match range.split_once('-').and_then(|(start, end)| Some((start, end.parse::<u64>().ok()?))) {
        Some(("0", end)) if end > 0 => end + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads() {
        for (text, expected) in
            [("0-99", 100), ("bytes=0-99", 100), ("0-0", 0), ("0--1", 0), ("", 0), ("5-9", 0), ("0-x", 0)]
        {
            assert_eq!(arrived(text), expected, "{text}");
        }
    }
}
