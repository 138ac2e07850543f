//! An S3-compatible bucket: blobs as objects, and the order of changes that all its instances agree on.
//!
//! ```text
//! blobs/sha256/<hex>.<place>   a verified blob; the place tells two uploads of the same blob apart
//! head                         the newest changes, and where the older ones are: see `journal`
//! journal/..., snapshots/...   older changes, and the sum of the oldest ones
//! token.key                    key of the tokens of all instances
//! ```
//!
//! The database of an instance is only a cache of what the head leads to.

pub mod client;
pub mod head;
pub mod journal;
pub mod sign;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ferry_oci::{Algorithm, Digest, Hasher};
use ferry_remote::transport::{self, Transport};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use http::header::RANGE;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use client::{Ask, BucketError, Client, element, elements, etag, interrupted, what};
use sign::{Keys, UNSIGNED};

/// Bytes read at once from a file that is sent.
const READ: usize = 256 << 10;

/// Where a bucket is, and who asks there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// Its name.
    pub name: String,
    /// The service's URL.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// What stands in front of every key; empty, or with a slash at its end.
    pub prefix: String,
    /// The keys.
    pub keys: Keys,
    /// Blobs larger than this are sent in parts of this size.
    pub part_size: u64,
}

/// An open bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    prefix: String,
    part_size: u64,
}

/// An object of a list.
#[derive(Debug)]
pub struct Listed {
    /// Its key, without the prefix.
    pub key: String,
    /// When it was made, in Unix seconds.
    pub made: u64,
}

impl Bucket {
    /// A bucket; nothing is asked of it yet.
    pub fn new(settings: &BucketSettings) -> std::io::Result<Bucket> {
        let transport = Transport::new(Arc::new(ferry_remote::Settings::default()));
        let (endpoint, keys) = (&settings.endpoint, settings.keys.clone());
        let client = Client::new(transport, endpoint, &settings.name, &settings.region, keys);
        let bad = || std::io::Error::other(format!("the bucket's endpoint {endpoint:?} is no URL"));
        let client = client.ok_or_else(bad)?;
        Ok(Bucket { client, prefix: settings.prefix.clone(), part_size: settings.part_size.max(1) })
    }

    fn key(&self, text: &str) -> String {
        format!("{}{text}", self.prefix)
    }

    fn blob_key(&self, digest: &Digest, place: &str) -> String {
        self.key(&format!("blobs/{}/{}.{place}", digest.algorithm(), digest.hex()))
    }

    /// Sends a verified file as a blob's object.
    pub async fn put_blob(&self, file: &Path, digest: &Digest, place: &str) -> Result<(), BucketError> {
        let (key, size) = (self.blob_key(digest, place), tokio::fs::metadata(file).await?.len());
        if size > self.part_size {
            return self.put_in_parts(file, &key, size).await;
        }
        // The service checks the digest once more.
        let payload = match digest.algorithm() {
            Algorithm::Sha256 => digest.hex(),
            _ => UNSIGNED,
        };
        let ask = Ask { payload, length: size, ..Ask::new(Method::PUT, &key) };
        self.client.send(&ask, || piece(file, 0, size)).await.map(|_| ())
    }

    async fn put_in_parts(&self, file: &Path, key: &str, size: u64) -> Result<(), BucketError> {
        let begin = Ask { query: &[("uploads", "")], ..Ask::new(Method::POST, key) };
        let answer = self.client.ask(&begin).await?;
        let missing = || BucketError::Answer { what: what(&begin), reason: "it names no upload".to_owned() };
        let id = element(&answer, "UploadId").ok_or_else(missing)?.to_owned();
        let sent = self.put_parts(file, key, &id, size).await;
        if sent.is_err() {
            // Where this fails too, the parts go when the place is cleared.
            let _ = self.abort(key, &id).await;
        }
        sent
    }

    async fn put_parts(&self, file: &Path, key: &str, id: &str, size: u64) -> Result<(), BucketError> {
        let mut list = String::new();
        for (number, start) in (1u32..).zip((0..size).step_by(self.part_size as usize)) {
            let length = self.part_size.min(size - start);
            let text = number.to_string();
            let query = [("partNumber", text.as_str()), ("uploadId", id)];
            let ask = Ask { query: &query, payload: UNSIGNED, length, ..Ask::new(Method::PUT, key) };
            let response = self.client.send(&ask, || piece(file, start, length)).await?;
            let etag = etag(&what(&ask), &response)?.replace('"', "&quot;");
            list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
        }
        let text = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let (bytes, query) = (Bytes::from(text), [("uploadId", id)]);
        let payload = sign::hex_digest(&bytes);
        let length = bytes.len() as u64;
        let ask = Ask { query: &query, payload: &payload, length, ..Ask::new(Method::POST, key) };
        let response = self.client.send(&ask, || transport::full(bytes.clone())).await?;
        let body = response.into_body().collect().await.map_err(|error| interrupted(&what(&ask), error))?;
        // This answer may begin with success and tell of a failure at its end.
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        match element(&text, "Code") {
            None => Ok(()),
            Some(code) => Err(BucketError::Answer { what: what(&ask), reason: code.to_owned() }),
        }
    }

    async fn abort(&self, key: &str, id: &str) -> Result<(), BucketError> {
        let query = [("uploadId", id)];
        let ask = Ask { query: &query, ..Ask::new(Method::DELETE, key) };
        match self.client.ask(&ask).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The bytes of a part of a blob.
    pub async fn get_blob(
        &self,
        digest: &Digest,
        place: &str,
        part: Option<(u64, u64)>,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, BucketError> {
        let key = self.blob_key(digest, place);
        let range = part.map(|(start, end)| format!("bytes={start}-{}", end.saturating_sub(1)));
        let headers: Vec<_> = range.map(|range| (RANGE.as_str(), range)).into_iter().collect();
        let ask = Ask { headers: &headers, ..Ask::new(Method::GET, &key) };
        let response = self.client.send(&ask, transport::empty).await?;
        Ok(response.into_body().into_data_stream().map_err(std::io::Error::other))
    }

    /// The digest that a blob's bytes have now.
    pub async fn digest_of(&self, digest: &Digest, place: &str) -> Result<Digest, BucketError> {
        let mut bytes = self.get_blob(digest, place, None).await?;
        let mut hasher = Hasher::new(digest.algorithm());
        while let Some(piece) = bytes.next().await {
            hasher.update(&piece?);
        }
        Ok(hasher.finish())
    }

    /// Removes a blob's object, and the parts of it that a kill left behind.
    pub async fn clear_place(&self, digest: &Digest, place: &str) -> Result<(), BucketError> {
        let key = self.blob_key(digest, place);
        self.client.delete(&key).await?;
        let ask = Ask { query: &[("uploads", ""), ("prefix", &key)], ..Ask::new(Method::GET, "") };
        let answer = self.client.ask(&ask).await?;
        for upload in elements(&answer, "Upload").filter(|upload| element(upload, "Key") == Some(&key)) {
            if let Some(id) = element(upload, "UploadId") {
                self.abort(&key, id).await?;
            }
        }
        Ok(())
    }

    /// All objects whose keys begin so.
    pub async fn list(&self, begin: &str) -> Result<Vec<Listed>, BucketError> {
        let (prefix, mut found) = (self.key(begin), Vec::new());
        let mut next: Option<String> = None;
        loop {
            let mut query = vec![("list-type", "2"), ("prefix", prefix.as_str())];
            query.extend(next.as_deref().map(|token| ("continuation-token", token)));
            let answer = self.client.ask(&Ask { query: &query, ..Ask::new(Method::GET, "") }).await?;
            for object in elements(&answer, "Contents") {
                let key = element(object, "Key").and_then(|key| key.strip_prefix(&self.prefix));
                let made =
                    element(object, "LastModified").and_then(|time| time.parse::<jiff::Timestamp>().ok());
                if let (Some(key), Some(made)) = (key, made) {
                    let made = u64::try_from(made.as_second()).unwrap_or_default();
                    found.push(Listed { key: key.to_owned(), made });
                }
            }
            next = element(&answer, "NextContinuationToken").map(str::to_owned);
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// A small object that the first instance makes and all others read.
    pub async fn shared(&self, name: &str, make: Vec<u8>) -> Result<Vec<u8>, BucketError> {
        let (key, bytes) = (self.key(name), Bytes::from(make));
        match self.client.put(&key, &bytes, Some(("if-none-match", "*".to_owned()))).await {
            Ok(_) => Ok(bytes.to_vec()),
            Err(error) if error.is_conflict() => {
                let found = self.client.get(&key, None).await?;
                Ok(found.map(|(bytes, _)| bytes).unwrap_or_default())
            }
            Err(error) => Err(error),
        }
    }
}

/// A part of a file as a request's body.
fn piece(file: &Path, start: u64, length: u64) -> transport::Body {
    enum State {
        Closed(PathBuf),
        Open(tokio::fs::File),
    }
    let state = (State::Closed(file.to_owned()), length);
    let pieces = stream::try_unfold(state, move |(state, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut file = match state {
            State::Open(file) => file,
            State::Closed(path) => {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(std::io::SeekFrom::Start(start)).await?;
                file
            }
        };
        let mut buffer = vec![0; left.min(READ as u64) as usize];
        file.read_exact(&mut buffer).await?;
        let left = left - buffer.len() as u64;
        Ok(Some((Frame::data(Bytes::from(buffer)), (State::Open(file), left))))
    });
    StreamBody::new(pieces.map_err(|error: std::io::Error| error.into())).boxed_unsync()
}
