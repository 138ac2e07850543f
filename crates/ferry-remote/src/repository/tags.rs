//! Tags of a repository.

use http::{HeaderMap, Method, header};
use serde::Deserialize;

use super::Repository;
use super::exchange::{absolute, header_text, wrong};
use crate::authorization::read_limited;
use crate::error::RemoteError;
use crate::transport;

/// Most pages of a tag list that are read: ten million tags at a thousand each.
const PAGES_MAX: usize = 10_000;

impl Repository {
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
            let body = read_limited(&self.transport, response, &uri).await?;
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
}
