//! Search, as Docker Hub offers it (`/v1/search`). Other registries may, few do.

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde::Deserialize;

use crate::authorization::{percent_encode, read_limited};
use crate::credentials::Credentials;
use crate::endpoint;
use crate::error::{RemoteError, show};
use crate::registry::Registry;
use crate::repository::refusal_text;
use crate::transport;

/// What Docker Hub's search is found at.
const HUB: (&str, &str) = ("docker.io", "index.docker.io");

/// One repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it says about itself.
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Whether it is one of the registry's own.
    pub is_official: bool,
    /// Whether it was built by the registry.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<Found>,
}

impl Registry {
    /// Repositories whose name or description has the term.
    ///
    /// # Errors
    /// Where the registry cannot be reached or has no search.
    pub async fn search(
        &self,
        domain: &str,
        term: &str,
        limit: u32,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Found>, RemoteError> {
        let mut last = None;
        for endpoint in endpoint::candidates(domain, self.settings()).into_iter().filter(|it| !it.is_mirror) {
            let host = if domain == HUB.0 { HUB.1 } else { endpoint.authority.as_str() };
            let query = format!("q={}&n={limit}", percent_encode(term));
            let text = format!("{}://{host}/v1/search?{query}", endpoint.scheme);
            let uri: Uri = text.parse().map_err(|error: http::uri::InvalidUri| RemoteError::Protocol {
                place: host.to_owned(),
                reason: format!("no address: {error}"),
            })?;
            match self.search_at(&uri, credentials).await {
                Err(error @ (RemoteError::Connect { .. } | RemoteError::Resolve { .. })) => {
                    last = Some(error)
                }
                outcome => return outcome,
            }
        }
        Err(last.unwrap_or_else(|| RemoteError::Protocol {
            place: domain.to_owned(),
            reason: "no address".into(),
        }))
    }

    async fn search_at(
        &self,
        uri: &Uri,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Found>, RemoteError> {
        let wrong = |reason: String| RemoteError::Protocol { place: show(uri), reason };
        let mut headers = HeaderMap::new();
        if let Some(credentials) = credentials.filter(|known| !known.username.is_empty()) {
            let mut proof =
                HeaderValue::from_str(&credentials.basic()).map_err(|error| wrong(error.to_string()))?;
            proof.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, proof);
        }
        let mut request = http::Request::builder()
            .method(Method::GET)
            .uri(uri.clone())
            .body(transport::empty())
            .map_err(|error| wrong(error.to_string()))?;
        *request.headers_mut() = headers;
        let response = self.transport().send(request).await?;
        let status = response.status();
        let body = read_limited(self.transport(), response, uri).await?;
        if !status.is_success() {
            return Err(RemoteError::Status {
                place: show(uri),
                status,
                reason: refusal_text(status, &body),
            });
        }
        let found: Results = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
        Ok(found.results)
    }
}
