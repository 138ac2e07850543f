//! One registry and its repositories: manifests and blobs in and out (OCI distribution specification 1.1).
//!
//! [`Registry::repository`] finds the first address of a domain that answers; everything after that goes there.
//! Redirects are followed, without the proof of identity where they lead to another host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

use ferry_oci::image::{DOCUMENT_SIZE_MAX, Descriptor, media_type};
use ferry_oci::{Digest, Reference};

use crate::authorization::{Authorizer, percent_encode, read_limited};
use crate::credentials::Credentials;
use crate::endpoint::{self, Endpoint};
use crate::error::{RemoteError, show};
use crate::transport::{self, Body, Transport};

/// Most redirects followed for one request.
const REDIRECTS_MAX: usize = 5;
/// Attempts at a document where the registry stumbles, and the pause before the second; each further one doubles it.
const DOCUMENT_ATTEMPTS: u32 = 4;
const DOCUMENT_FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Most pages of a tag list that are read: ten million tags at a thousand each.
const PAGES_MAX: usize = 10_000;

/// All exchanges with registries under one set of settings.
#[derive(Clone)]
pub struct Registry {
    transport: Transport,
}

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

/// A blob on its way in.
pub struct Blob {
    /// Size of the whole blob in bytes, where the registry says.
    pub size: Option<u64>,
    /// Where in the blob the stream starts: what was asked for, or 0 where the registry knows no ranges.
    pub offset: u64,
    /// The bytes.
    pub stream: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, RemoteError>> + Send>>,
}

/// What became of the start of an upload.
#[derive(Debug, Clone)]
pub enum UploadStart {
    /// The registry took the blob over from another of its repositories.
    Mounted,
    /// Send the bytes here.
    Upload(Uri),
}

impl Registry {
    /// Registries under these settings.
    #[must_use]
    pub fn new(settings: Arc<crate::Settings>) -> Self {
        Self { transport: Transport::new(settings) }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &crate::Settings {
        self.transport.settings()
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Repositories on all addresses that stand for the reference's domain, best first, mirrors included.
    #[must_use]
    pub fn candidates(&self, reference: &Reference, credentials: Option<&Credentials>) -> Vec<Repository> {
        endpoint::candidates(reference.domain(), self.transport.settings())
            .into_iter()
            .map(|endpoint| self.at(endpoint, reference, credentials))
            .collect()
    }

    /// The repository at the domain itself, on the first address that answers at all.
    ///
    /// # Errors
    /// Where none answers.
    pub async fn repository(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Repository, RemoteError> {
        let mut last = None;
        for repository in self.candidates(reference, credentials) {
            if repository.endpoint.is_mirror {
                continue;
            }
            match repository.reachable().await {
                Ok(()) => return Ok(repository),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| RemoteError::Protocol {
            place: reference.domain().to_owned(),
            reason: "no address".into(),
        }))
    }

    /// Checks credentials against a registry.
    ///
    /// # Errors
    /// Where it cannot be reached or refuses them.
    pub async fn login(&self, domain: &Reference, credentials: &Credentials) -> Result<(), RemoteError> {
        let repository = self.repository(domain, Some(credentials)).await?;
        let uri = repository.endpoint.uri("")?;
        let sent =
            repository.send_for(Method::GET, uri.clone(), HeaderMap::new(), transport::empty, &[]).await;
        let response = match sent {
            Err(RemoteError::Unauthorized { reason, .. }) => {
                let status = StatusCode::UNAUTHORIZED;
                return Err(RemoteError::LoginRefused { place: show(&uri), status, reason });
            }
            other => other?,
        };
        match response.status() {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let body = read_limited(response, &uri).await.unwrap_or_default();
                Err(RemoteError::LoginRefused {
                    place: show(&uri),
                    status,
                    reason: refusal_text(status, &body),
                })
            }
            status => Err(repository.refusal(status, response, &uri).await),
        }
    }

    fn at(&self, endpoint: Endpoint, reference: &Reference, credentials: Option<&Credentials>) -> Repository {
        // A mirror is another registry: what proves identity to the one is not shown to the other.
        let credentials = credentials.filter(|_| !endpoint.is_mirror).cloned();
        Repository {
            transport: self.transport.clone(),
            endpoint,
            path: reference.path().to_owned(),
            name: reference.familiar_name(),
            authorizer: Arc::new(Authorizer::new(credentials)),
        }
    }
}

/// One repository at one address.
#[derive(Clone)]
pub struct Repository {
    transport: Transport,
    endpoint: Endpoint,
    path: String,
    name: String,
    authorizer: Arc<Authorizer>,
}

impl Repository {
    /// The address it is spoken to at.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Any answer to `GET /v2/` will do; only a failure to speak is an error.
    async fn reachable(&self) -> Result<(), RemoteError> {
        let uri = self.endpoint.uri("")?;
        let request =
            Request::get(uri.clone()).body(transport::empty()).map_err(|error| wrong(&uri, error))?;
        self.transport.send(request).await.map(drop)
    }

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
        let uri = self.endpoint.uri(&format!("{}/blobs/{digest}", self.path))?;
        let mut headers = HeaderMap::new();
        if offset > 0 || end.is_some() {
            let end = end.map(|end| end.saturating_sub(1).to_string()).unwrap_or_default();
            let range = HeaderValue::from_str(&format!("bytes={offset}-{end}"))
                .map_err(|error| wrong(&uri, error))?;
            headers.insert(header::RANGE, range);
        }
        let response = self.send(Method::GET, uri.clone(), headers, transport::empty, "pull").await?;
        let length = header_text(response.headers(), &header::CONTENT_LENGTH).parse::<u64>().ok();
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
        Ok(Blob { size, offset, stream: Box::pin(body_stream(response.into_body(), show(&uri), idle)) })
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

    /// Sends the rest of a blob, from `offset` on, to an upload's address; gives the address to go on at.
    ///
    /// # Errors
    /// Where the registry refuses or the exchange breaks off: then ask [`Self::upload_offset`].
    pub async fn append_upload(
        &self,
        upload: &Uri,
        offset: u64,
        size: u64,
        body: impl Fn() -> Body,
    ) -> Result<Uri, RemoteError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size - offset));
        if offset > 0 {
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

    /// All tags, page by page.
    ///
    /// # Errors
    /// Where the registry refuses or its pages go in circles.
    pub async fn tags(&self) -> Result<Vec<String>, RemoteError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut next = Some(self.endpoint.uri(&format!("{}/tags/list?n=1000", self.path))?);
        for _ in 0..PAGES_MAX {
            let Some(uri) = next.take() else { return Ok(tags) };
            let response =
                self.send(Method::GET, uri.clone(), HeaderMap::new(), transport::empty, "pull").await?;
            let status = response.status();
            if !status.is_success() {
                return Err(self.refusal(status, response, &uri).await);
            }
            let link = header_text(response.headers(), &header::LINK);
            let body = read_limited(response, &uri).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|error| wrong(&uri, error))?;
            tags.extend(page.tags.unwrap_or_default());
            let target = link
                .strip_prefix('<')
                .and_then(|link| link.split_once('>'))
                .map(|(target, _)| target.to_owned());
            next = target.map(|target| absolute(&uri, &target)).transpose()?;
        }
        Err(RemoteError::Protocol {
            place: self.endpoint.authority.clone(),
            reason: "its list of tags does not end".into(),
        })
    }

    fn manifest_unknown(&self, tag_or_digest: &str) -> RemoteError {
        let joiner = if Digest::parse(tag_or_digest).is_ok() { '@' } else { ':' };
        RemoteError::ManifestUnknown { reference: format!("{}{joiner}{tag_or_digest}", self.name) }
    }

    fn location(&self, response: &Response<Incoming>, from: &Uri) -> Result<Uri, RemoteError> {
        absolute(from, &header_text(response.headers(), &header::LOCATION))
    }

    async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: impl Fn() -> Body,
        actions: &str,
    ) -> Result<Response<Incoming>, RemoteError> {
        let scope = format!("repository:{}:{actions}", self.path);
        self.send_for(method, uri, headers, body, &[scope]).await
    }

    /// Sends a request with what proof there is, gets a better one where that is refused, follows redirects.
    async fn send_for(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: impl Fn() -> Body,
        scopes: &[String],
    ) -> Result<Response<Incoming>, RemoteError> {
        let mut target = uri.clone();
        let mut proof = self.authorizer.header(&scopes.join(" "));
        let mut asked = false;
        for _ in 0..=REDIRECTS_MAX + 1 {
            let mut request = Request::builder()
                .method(method.clone())
                .uri(target.clone())
                .body(body())
                .map_err(|error| wrong(&target, error))?;
            *request.headers_mut() = headers.clone();
            // The proof is for this registry alone.
            let same_host = target.authority() == uri.authority() && target.scheme() == uri.scheme();
            if let Some(proof) = proof.as_ref().filter(|_| same_host) {
                request.headers_mut().insert(header::AUTHORIZATION, proof.clone());
            }
            let response = self.transport.send(request).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !asked && same_host => {
                    asked = true;
                    proof = Some(self.authorizer.answer(&self.transport, &response, &target, scopes).await?);
                }
                status if status.is_redirection() && response.headers().contains_key(header::LOCATION) => {
                    target = self.location(&response, &target)?;
                }
                _ => return Ok(response),
            }
        }
        Err(RemoteError::Protocol {
            place: show(&uri),
            reason: format!("more than {REDIRECTS_MAX} redirects"),
        })
    }

    /// The error for an answer that is no success.
    async fn refusal(&self, status: StatusCode, response: Response<Incoming>, uri: &Uri) -> RemoteError {
        let retry_after =
            header_text(response.headers(), &header::RETRY_AFTER).parse().ok().map(Duration::from_secs);
        let body = read_limited(response, uri).await.unwrap_or_default();
        let reason = refusal_text(status, &body);
        let host = self.endpoint.authority.clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RemoteError::Denied { repository: self.name.clone(), reason }
            }
            StatusCode::TOO_MANY_REQUESTS => RemoteError::TooManyRequests { host, reason, retry_after },
            status => RemoteError::Status { place: show(uri), status, reason },
        }
    }

    async fn within_time<T>(
        &self,
        uri: &Uri,
        work: impl Future<Output = Result<T, Box<dyn std::error::Error + Send + Sync>>>,
    ) -> Result<T, RemoteError> {
        let after = self.transport.settings().idle_timeout;
        match tokio::time::timeout(after, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) => Err(RemoteError::Exchange { place: show(uri), source }),
            Err(_) => Err(RemoteError::Timeout { place: show(uri), after }),
        }
    }
}

/// Tries something again, a few times, while it fails for reasons that pass.
async fn again_if_passing<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, RemoteError>
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

fn digest_like(expected: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = ferry_oci::digest::Hasher::new(expected.algorithm());
    hasher.update(bytes);
    hasher.finish()
}

fn header_text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
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

/// Bytes that have arrived by an upload's `Range: 0-N`; a registry without any says `0-0`, `0--1` or nothing.
fn arrived(range: &str) -> u64 {
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    match range.split_once('-').and_then(|(start, end)| Some((start, end.parse::<u64>().ok()?))) {
        Some(("0", end)) if end > 0 => end + 1,
        _ => 0,
    }
}

/// Resolves a `Location` or `Link` against the address it came from.
fn absolute(base: &Uri, target: &str) -> Result<Uri, RemoteError> {
    let text = if target.contains("://") {
        target.to_owned()
    } else {
        let root = format!(
            "{}://{}",
            base.scheme_str().unwrap_or("https"),
            base.authority().map_or("", |a| a.as_str())
        );
        match target.strip_prefix('/') {
            Some(path) => format!("{root}/{path}"),
            None => {
                let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{root}{folder}/{target}")
            }
        }
    };
    match text.parse::<Uri>() {
        Ok(uri)
            if matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some()
                && !target.is_empty() =>
        {
            Ok(uri)
        }
        _ => Err(RemoteError::Protocol { place: show(base), reason: "it points to no address".into() }),
    }
}

/// The registry's own words (`{"errors":[{"code","message","detail"}]}`), cut to a line.
pub(crate) fn reason_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        #[serde(default)]
        details: String,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    const LENGTH_MAX: usize = 500;
    let answer: Errors = serde_json::from_slice(body).ok()?;
    let text = match answer.errors.first() {
        Some(first) if first.message.is_empty() => first.code.to_ascii_lowercase(),
        Some(first) => format!("{}: {}", first.code.to_ascii_lowercase(), first.message),
        None if !answer.details.is_empty() => answer.details,
        None => return None,
    };
    let line: String = text.chars().filter(|character| !character.is_control()).take(LENGTH_MAX).collect();
    Some(line)
}

/// The registry's own words, else what the status means.
pub(crate) fn refusal_text(status: StatusCode, body: &[u8]) -> String {
    reason_of(body).unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned())
}

fn wrong(uri: &Uri, error: impl std::fmt::Display) -> RemoteError {
    RemoteError::Protocol { place: show(uri), reason: error.to_string() }
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

    #[test]
    fn ranges_of_uploads() {
        for (text, expected) in
            [("0-99", 100), ("bytes=0-99", 100), ("0-0", 0), ("0--1", 0), ("", 0), ("5-9", 0), ("0-x", 0)]
        {
            assert_eq!(arrived(text), expected, "{text}");
        }
    }

    #[test]
    fn locations() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/uploads/".parse().expect("an address");
        for (target, expected) in [
            ("/v2/a/blobs/uploads/1?x=2", Some("https://r.example:5000/v2/a/blobs/uploads/1?x=2")),
            ("http://other.example/z", Some("http://other.example/z")),
            ("one", Some("https://r.example:5000/v2/a/blobs/uploads/one")),
            ("ftp://other.example/z", None),
            ("", None),
        ] {
            assert_eq!(
                absolute(&base, target).ok().map(|uri| uri.to_string()).as_deref(),
                expected,
                "{target}"
            );
        }
    }

    #[test]
    fn reasons() {
        for (body, expected) in [
            (r#"{"errors":[{"code":"DENIED","message":"no"}]}"#, Some("denied: no")),
            (r#"{"errors":[{"code":"DENIED"}]}"#, Some("denied")),
            (r#"{"details":"incorrect username or password"}"#, Some("incorrect username or password")),
            (r#"{"errors":[]}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(reason_of(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn media_types() {
        assert_eq!(media_type_of("text/plain".into(), br#"{"mediaType":"x/y"}"#), "x/y");
        assert_eq!(media_type_of(String::new(), br#"{"manifests":[]}"#), media_type::OCI_INDEX);
        assert_eq!(media_type_of(media_type::OCI_MANIFEST.into(), b"{}"), media_type::OCI_MANIFEST);
    }
}
