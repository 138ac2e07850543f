//! One repository at one address: manifests, blobs and tags in and out (OCI distribution specification 1.1).
//!
//! Every request goes through [`exchange`]: it shows what proves identity, asks for a better proof where that is
//! refused, and follows redirects, without the proof where they lead to another host.

mod blob;
mod exchange;
mod manifest;
mod tags;
mod upload;

use std::sync::Arc;

pub use blob::{Blob, content_range};
pub(crate) use exchange::{reason_of, refusal_text};
pub use manifest::FetchedManifest;
pub use upload::UploadStart;

use crate::authorization::Authorizer;
use crate::endpoint::Endpoint;
use crate::transport::Transport;

/// One repository at one address.
#[derive(Clone)]
pub struct Repository {
    pub(crate) transport: Transport,
    pub(crate) endpoint: Endpoint,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) authorizer: Arc<Authorizer>,
}

impl Repository {
    /// The address it is spoken to at.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}
