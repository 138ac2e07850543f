//! One repository at one address: manifests, blobs and tags in and out (OCI distribution specification 1.1).
//!
//! Every request goes through [`exchange`]: it shows what proves identity, asks for a better proof where that is
//! refused, and follows redirects, without the proof where they lead to another host. Nor is it shown where an upload or a
//! list goes on at another host.

mod blob;
mod exchange;
mod manifest;
mod tags;
mod upload;

use std::sync::Arc;

use http::Uri;

pub use blob::{Blob, content_range};
pub(crate) use exchange::{reason_of, refusal_text};
pub use manifest::FetchedManifest;
pub use upload::UploadStart;

use crate::authorization::Authorizer;
use crate::endpoint::Endpoint;
use crate::error::show_host;
use crate::transport::Transport;

/// One repository at one address.
#[derive(Clone)]
pub struct Repository {
    pub(crate) transport: Transport,
    pub(crate) endpoint: Endpoint,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) authorizer: Arc<Authorizer>,
    /// The one address at which the only blob of this place is.
    pub(crate) only: Option<Uri>,
}

impl Repository {
    /// The address it is spoken to at.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The place of a blob that its maker allows nobody to pass on, as the manifest's `urls` name it (OCI image
    /// specification 1.1, "Descriptors"). None for what is no address of the web. No proof of identity goes there.
    #[must_use]
    pub fn elsewhere(&self, url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "https" => "https",
            "http" => "http",
            _ => return None,
        };
        let authority = show_host(&uri);
        let endpoint =
            Endpoint { scheme, authority, prefix: String::new(), insecure: false, is_mirror: false };
        Some(Self { endpoint, authorizer: Arc::new(Authorizer::new(None)), only: Some(uri), ..self.clone() })
    }
}
