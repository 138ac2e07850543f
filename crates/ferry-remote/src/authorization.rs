//! Answers challenges: Basic, or a bearer token fetched from the registry's token service and kept while it lasts
//! (distribution's token and OAuth2 authentication specifications).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;

use crate::challenge::{self, Challenge};
use crate::credentials::Credentials;
use crate::error::{RemoteError, show, show_host};
use crate::transport::{self, Transport};

/// How long a token lasts where its service does not say (specification).
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Tokens are renewed this long before they end, so that none ends on the way.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// Largest answer of a token service that is read.
const ANSWER_MAX: usize = 1 << 20;

/// Proofs for one registry, by scope.
pub struct Authorizer {
    credentials: Option<Credentials>,
    proofs: Mutex<HashMap<String, Proof>>,
}

#[derive(Clone)]
struct Proof {
    header: HeaderValue,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: u64,
    #[serde(default)]
    refresh_token: String,
}

impl Authorizer {
    /// For somebody, or for nobody in particular.
    #[must_use]
    pub fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, proofs: Mutex::new(HashMap::new()) }
    }

    /// The `Authorization` header that last worked for a scope, while it lasts.
    #[must_use]
    pub fn header(&self, scope: &str) -> Option<HeaderValue> {
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        let proof = proofs.get(scope)?;
        let valid = proof.until.is_none_or(|until| Instant::now() + TOKEN_MARGIN < until);
        valid.then(|| proof.header.clone())
    }

    /// Answers a 401: gets a proof for the scope, or explains why there is none.
    ///
    /// # Errors
    /// Where the registry asks for something that cannot be given, or the token service refuses.
    pub async fn answer(
        &self,
        transport: &Transport,
        refusal: &Response<Incoming>,
        place: &Uri,
        scopes: &[String],
    ) -> Result<HeaderValue, RemoteError> {
        let host = show_host(place);
        let challenges: Vec<Challenge> = refusal
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let proof = match challenges.first() {
            Some(Challenge::Bearer { realm, service, scope }) => {
                self.bearer(transport, &host, realm, service.as_deref(), scope.as_deref(), scopes).await?
            }
            Some(Challenge::Basic) => self.basic(&host)?,
            None => {
                let reason = "it asks for a proof of a kind that is not understood".to_owned();
                return Err(RemoteError::Unauthorized { host, reason });
            }
        };
        let header = proof.header.clone();
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner).insert(scopes.join(" "), proof);
        Ok(header)
    }

    fn basic(&self, host: &str) -> Result<Proof, RemoteError> {
        let Some(credentials) = &self.credentials else {
            let reason = "no basic auth credentials".to_owned();
            return Err(RemoteError::Unauthorized { host: host.to_owned(), reason });
        };
        Ok(Proof { header: secret(&credentials.basic(), host)?, until: None })
    }

    async fn bearer(
        &self,
        transport: &Transport,
        host: &str,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        scopes: &[String],
    ) -> Result<Proof, RemoteError> {
        if let Some(token) =
            self.credentials.as_ref().map(|c| &c.registry_token).filter(|token| !token.is_empty())
        {
            return Ok(Proof { header: secret(&format!("Bearer {token}"), host)?, until: None });
        }
        let realm: Uri = realm.parse().map_err(|_| RemoteError::Protocol {
            place: host.to_owned(),
            reason: format!("its token service `{realm}` is no address"),
        })?;
        let mut wanted: Vec<&str> = scopes.iter().map(String::as_str).collect();
        wanted.extend(scope.filter(|scope| wanted.is_empty() && !scope.is_empty()));
        let request =
            match self.credentials.as_ref().filter(|credentials| !credentials.identity_token.is_empty()) {
                Some(credentials) => oauth_request(&realm, service, &wanted, &credentials.identity_token),
                None => token_request(&realm, service, &wanted, self.credentials.as_ref()),
            };
        let request = request
            .map_err(|error| RemoteError::Protocol { place: show(&realm), reason: error.to_string() })?;
        let response = transport.send(request).await?;
        let status = response.status();
        let body = read_limited(transport, response, &realm).await?;
        if !status.is_success() {
            return Err(refused(host, status, &body));
        }
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|error| RemoteError::Protocol {
            place: show(&realm),
            reason: format!("no token in its answer: {error}"),
        })?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() {
            return Err(RemoteError::Protocol { place: show(&realm), reason: "an empty token".into() });
        }
        // A refresh token belongs to a login, which asks for it itself; here it is of no use.
        drop(answer.refresh_token);
        let life = if answer.expires_in == 0 {
            TOKEN_LIFE
        } else {
            Duration::from_secs(answer.expires_in.min(86_400))
        };
        Ok(Proof { header: secret(&format!("Bearer {token}"), host)?, until: Some(Instant::now() + life) })
    }
}

fn refused(host: &str, status: StatusCode, body: &[u8]) -> RemoteError {
    let reason =
        crate::repository::reason_of(body).unwrap_or_else(|| format!("its token service answered {status}"));
    if status == StatusCode::TOO_MANY_REQUESTS {
        return RemoteError::TooManyRequests { host: host.to_owned(), reason, retry_after: None };
    }
    RemoteError::Unauthorized { host: host.to_owned(), reason }
}

fn secret(value: &str, host: &str) -> Result<HeaderValue, RemoteError> {
    let mut header = HeaderValue::from_str(value).map_err(|_| RemoteError::Unauthorized {
        host: host.to_owned(),
        reason: "the credentials hold characters that no header may".into(),
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// `GET realm?service=…&scope=…`, with Basic where somebody asks.
fn token_request(
    realm: &Uri,
    service: Option<&str>,
    scopes: &[&str],
    credentials: Option<&Credentials>,
) -> Result<Request<transport::Body>, http::Error> {
    let mut query: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
    query.extend(scopes.iter().map(|scope| ("scope", *scope)));
    if let Some(credentials) = credentials {
        query.push(("account", &credentials.username));
    }
    query.push(("client_id", "ferry"));
    let joiner = if realm.query().is_some() { '&' } else { '?' };
    let uri = format!("{realm}{joiner}{}", form(&query));
    let mut request = Request::get(uri);
    if let Some(credentials) = credentials {
        let mut value = HeaderValue::from_str(&credentials.basic())?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(transport::empty())
}

/// `POST realm` with a refresh token.
fn oauth_request(
    realm: &Uri,
    service: Option<&str>,
    scopes: &[&str],
    refresh_token: &str,
) -> Result<Request<transport::Body>, http::Error> {
    let scope = scopes.join(" ");
    let mut fields =
        vec![("grant_type", "refresh_token"), ("client_id", "ferry"), ("refresh_token", refresh_token)];
    fields.extend(service.map(|service| ("service", service)));
    fields.push(("scope", &scope));
    Request::post(realm.clone())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(transport::full(Bytes::from(form(&fields))))
}

/// `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(key, value)| format!("{key}={}", percent_encode(value))).collect();
    pairs.join("&")
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
#[must_use]
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Reads a small answer whole.
pub(crate) async fn read_limited(
    transport: &Transport,
    response: Response<Incoming>,
    place: &Uri,
) -> Result<Bytes, RemoteError> {
    let after = transport.settings().idle_timeout;
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect();
    match tokio::time::timeout(after, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(source)) => Err(RemoteError::Exchange { place: show(place), source }),
        Err(_) => Err(RemoteError::Timeout { place: show(place), after }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_requests_name_service_and_every_scope() {
        let realm: Uri = "https://auth.example/token?x=1".parse().expect("an address");
        let credentials =
            Credentials { username: "ann@b".into(), password: "p".into(), ..Credentials::default() };
        let request = token_request(
            &realm,
            Some("reg"),
            &["repository:a:pull", "repository:b:pull"],
            Some(&credentials),
        )
        .expect("a request");
        assert_eq!(
            request.uri().to_string(),
            "https://auth.example/token?x=1&service=reg&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull&account=ann%40b&client_id=ferry"
        );
        assert!(request.headers()[header::AUTHORIZATION].is_sensitive());
    }
}
