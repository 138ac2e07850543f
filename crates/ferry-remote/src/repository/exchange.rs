//! Requests to a repository's address: proofs, redirects, refusals, addresses in answers.

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use serde::Deserialize;

use ferry_oci::Digest;

use super::Repository;
use crate::authorization::read_limited;
use crate::error::{RemoteError, show};
use crate::transport::{self, Body};

/// Most redirects followed for one request.
const REDIRECTS_MAX: usize = 5;

impl Repository {
    /// Any answer to `GET /v2/` will do; only a failure to speak is an error.
    pub(crate) async fn reachable(&self) -> Result<(), RemoteError> {
        let uri = self.endpoint.uri("")?;
        let request =
            Request::get(uri.clone()).body(transport::empty()).map_err(|error| wrong(&uri, error))?;
        self.transport.send(request).await.map(drop)
    }

    pub(crate) fn location(&self, response: &Response<Incoming>, from: &Uri) -> Result<Uri, RemoteError> {
        absolute(from, &header_text(response.headers(), &header::LOCATION))
    }

    pub(crate) async fn send(
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
    pub(crate) async fn send_for(
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
            let own = self.is_own(&target);
            if let Some(proof) = proof.as_ref().filter(|_| own) {
                request.headers_mut().insert(header::AUTHORIZATION, proof.clone());
            }
            let response = self.transport.send(request).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !asked && own => {
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

    /// Whether an address is the registry's own: the proof is for no other one, whoever names it.
    fn is_own(&self, uri: &Uri) -> bool {
        let Ok(own) = self.endpoint.uri("") else { return false };
        let port =
            |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
        own.scheme() == uri.scheme() && host(&own) == host(uri) && port(&own) == port(uri)
    }

    /// The error for an answer that is no success.
    pub(crate) async fn refusal(
        &self,
        status: StatusCode,
        response: Response<Incoming>,
        uri: &Uri,
    ) -> RemoteError {
        let retry_after =
            header_text(response.headers(), &header::RETRY_AFTER).parse().ok().map(Duration::from_secs);
        let body = read_limited(&self.transport, response, uri).await.unwrap_or_default();
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

    pub(crate) async fn within_time<T>(
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

pub(crate) fn digest_like(expected: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = ferry_oci::digest::Hasher::new(expected.algorithm());
    hasher.update(bytes);
    hasher.finish()
}

pub(crate) fn header_text(headers: &HeaderMap, name: &header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Resolves a `Location` or `Link` against the address it came from.
pub(crate) fn absolute(base: &Uri, target: &str) -> Result<Uri, RemoteError> {
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

pub(crate) fn wrong(uri: &Uri, error: impl std::fmt::Display) -> RemoteError {
    RemoteError::Protocol { place: show(uri), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
