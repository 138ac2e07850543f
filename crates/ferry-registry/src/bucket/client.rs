//! Requests to an S3-compatible service: what a registry needs of it, and no more.

use std::time::Duration;

use bytes::Bytes;
use ferry_remote::RemoteError;
use ferry_remote::transport::{self, Transport};
use http::header::{CONTENT_LENGTH, ETAG, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;

use super::sign::{self, Keys, Subject};

/// Most bytes of an answer that is kept in memory: a list, or an error.
const ANSWER_MAX: usize = 4 << 20;
/// How often a request is sent that the service could not serve at the time.
const ATTEMPTS: u32 = 4;
/// Before the second attempt; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a bucket did not do it.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The service cannot be reached.
    #[error("the bucket cannot be reached: {0}")]
    Unreachable(#[from] RemoteError),
    /// It refuses.
    #[error("the bucket answers {status} to {what}: {text}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// This request.
        what: String,
        /// For this reason.
        text: String,
    },
    /// An answer is not what it should be.
    #[error("the bucket's answer to {what} is not to be understood: {reason}")]
    Answer {
        /// To what.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file that should be sent, or kept.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

impl BucketError {
    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, BucketError::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether somebody else was quicker: a condition did not hold.
    pub fn is_conflict(&self) -> bool {
        use StatusCode as S;
        matches!(self, BucketError::Refused { status: S::PRECONDITION_FAILED | S::CONFLICT, .. })
    }

    fn passes(&self) -> bool {
        match self {
            BucketError::Unreachable(_) => true,
            BucketError::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

/// A bucket's service.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    scheme: String,
    authority: String,
    /// In front of the bucket's name, for services below a path.
    base: String,
    bucket: String,
    region: String,
    keys: Keys,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}://{}{}/{}", self.scheme, self.authority, self.base, self.bucket)
    }
}

/// A request; the empty payload unless another one is said.
pub struct Ask<'a> {
    /// What to do.
    pub method: Method,
    /// With which object; empty for the bucket itself.
    pub key: &'a str,
    /// The query's parts.
    pub query: &'a [(&'a str, &'a str)],
    /// Further headers, which are not signed.
    pub headers: &'a [(&'a str, String)],
    /// The payload's digest.
    pub payload: &'a str,
    /// The payload's length.
    pub length: u64,
}

impl<'a> Ask<'a> {
    /// A request without a payload.
    pub fn new(method: Method, key: &'a str) -> Ask<'a> {
        Ask { method, key, query: &[], headers: &[], payload: EMPTY, length: 0 }
    }
}

/// The digest of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Client {
    /// A client; nothing is asked yet. None where the endpoint is no URL.
    pub fn new(
        transport: Transport,
        endpoint: &str,
        bucket: &str,
        region: &str,
        keys: Keys,
    ) -> Option<Client> {
        let (scheme, rest) = endpoint.split_once("://")?;
        let (authority, base) = rest.split_once('/').unwrap_or((rest, ""));
        let known = matches!(scheme, "http" | "https") && !authority.is_empty() && !authority.contains('@');
        let base = base.trim_end_matches('/');
        known.then(|| Client {
            transport,
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            base: if base.is_empty() { String::new() } else { format!("/{base}") },
            bucket: bucket.to_owned(),
            region: region.to_owned(),
            keys,
        })
    }

    fn request(&self, ask: &Ask<'_>, body: transport::Body) -> Result<Request<transport::Body>, BucketError> {
        let path =
            format!("{}/{}/{}", self.base, sign::encode(&self.bucket, false), sign::encode(ask.key, true));
        let mut query: Vec<String> = ask
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", sign::encode(name, false), sign::encode(value, false)))
            .collect();
        query.sort();
        let query = query.join("&");
        let subject = Subject {
            method: ask.method.as_str(),
            host: &self.authority,
            path: &path,
            query: &query,
            payload: ask.payload,
            time: Timestamp::now(),
        };
        let mark = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}://{}{path}{mark}{query}", self.scheme, self.authority))
            .header(HOST, &self.authority);
        if ask.method != Method::GET && ask.method != Method::HEAD {
            request = request.header(CONTENT_LENGTH, ask.length);
        }
        for (name, value) in sign::headers(&self.keys, &self.region, &subject) {
            request = request.header(name, value);
        }
        for (name, value) in ask.headers {
            request = request.header(*name, value);
        }
        let bad = |error: http::Error| BucketError::Answer { what: what(ask), reason: error.to_string() };
        request.body(body).map_err(bad)
    }

    /// Sends a request, again where the service could not serve it; gives an answer that says success. A change
    /// may have been made by an attempt whose answer got lost: with a condition, that looks like a conflict.
    pub async fn send(
        &self,
        ask: &Ask<'_>,
        body: impl Fn() -> transport::Body,
    ) -> Result<Response<Incoming>, BucketError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.send_once(ask, body()).await {
                Err(error) if error.passes() && attempt < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
        unreachable!("the last attempt's result is given")
    }

    async fn send_once(
        &self,
        ask: &Ask<'_>,
        body: transport::Body,
    ) -> Result<Response<Incoming>, BucketError> {
        let response = self.transport.send(self.request(ask, body)?).await?;
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let status = response.status();
        let text = text(&what(ask), response).await.unwrap_or_default();
        let code = element(&text, "Code").unwrap_or("no reason");
        let message = element(&text, "Message").unwrap_or_default();
        Err(BucketError::Refused {
            status,
            what: what(ask),
            text: format!("{code} {message}").trim().to_owned(),
        })
    }

    /// Sends a request without a payload and gives the answer's text.
    pub async fn ask(&self, ask: &Ask<'_>) -> Result<String, BucketError> {
        let response = self.send(ask, transport::empty).await?;
        text(&what(ask), response).await
    }

    /// An object's bytes and its tag; None where it is still the one of `known`.
    pub async fn get(
        &self,
        key: &str,
        known: Option<&str>,
    ) -> Result<Option<(Vec<u8>, String)>, BucketError> {
        let headers: Vec<_> = known.map(|known| ("if-none-match", known.to_owned())).into_iter().collect();
        let ask = Ask { headers: &headers, ..Ask::new(Method::GET, key) };
        let response = self.send(&ask, transport::empty).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let etag = etag(&what(&ask), &response)?;
        let bytes = response.into_body().collect().await.map_err(|error| interrupted(&what(&ask), error))?;
        Ok(Some((bytes.to_bytes().to_vec(), etag)))
    }

    /// Puts bytes as an object, where a condition holds; gives its tag.
    pub async fn put(
        &self,
        key: &str,
        bytes: &Bytes,
        condition: Option<(&str, String)>,
    ) -> Result<String, BucketError> {
        let headers: Vec<_> = condition.into_iter().collect();
        let payload = sign::hex_digest(bytes);
        let ask = Ask {
            headers: &headers,
            payload: &payload,
            length: bytes.len() as u64,
            ..Ask::new(Method::PUT, key)
        };
        let response = self.send(&ask, || transport::full(bytes.clone())).await?;
        etag(&what(&ask), &response)
    }

    /// Removes an object; one that is not there is as good as removed.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        match self.send(&Ask::new(Method::DELETE, key), transport::empty).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// A request in words.
pub fn what(ask: &Ask<'_>) -> String {
    match ask.key {
        "" => format!("{} of the bucket", ask.method),
        key => format!("{} of {key}", ask.method),
    }
}

/// An answer's tag.
pub fn etag(what: &str, response: &Response<Incoming>) -> Result<String, BucketError> {
    let found = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok());
    let missing = || BucketError::Answer { what: what.to_owned(), reason: "it has no ETag".to_owned() };
    found.map(str::to_owned).ok_or_else(missing)
}

/// An answer that broke off.
pub fn interrupted(what: &str, error: impl std::fmt::Display) -> BucketError {
    BucketError::Answer { what: what.to_owned(), reason: format!("it broke off: {error}") }
}

async fn text(what: &str, response: Response<Incoming>) -> Result<String, BucketError> {
    let limited = Limited::new(response.into_body(), ANSWER_MAX);
    let bytes = limited.collect().await.map_err(|error| interrupted(what, error))?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of the first element of a name.
pub fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    elements(xml, name).next()
}

/// The texts of all elements of a name. Enough for the answers of S3, whose elements of these names have no
/// attributes and do not nest.
pub fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let begin = rest.find(&open)? + open.len();
        let length = rest[begin..].find(&close)?;
        let text = &rest[begin..begin + length];
        rest = &rest[begin + length + close.len()..];
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_answers() {
        let xml = "<R><C><K>a</K></C><C><K>b</K></C><More>true</More></R>";
        let keys: Vec<_> = elements(xml, "C").filter_map(|one| element(one, "K")).collect();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(element(xml, "More"), Some("true"));
        assert_eq!(element("<K>cut off", "K"), None);
    }
}
