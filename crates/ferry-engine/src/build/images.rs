//! Base images of builds: from the store, else from their registry.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use ferry_build::build::ImageSource;
use ferry_build::lower::{ImageRequest, ResolvedImage};
use ferry_build::solve::BoxFuture;
use ferry_oci::{Platform, Reference};
use ferry_remote::Credentials;
use ferry_store::{Image, ResolveError};
use futures_util::StreamExt;
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::error::error_chain;
use crate::transfer::progress;
use crate::transfer::pull::{self, PullRequest};

/// The name under which clients keep Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The header with a client's credentials by registry.
const CONFIG_HEADER: &str = "x-registry-config";

/// Finds base images for one build.
pub struct BaseImages {
    engine: Weak<Engine>,
    /// Ask registries for newer images.
    pull: bool,
    credentials: HashMap<String, serde_json::Value>,
    /// Where the progress of pulls goes.
    output: mpsc::Sender<io::Result<Bytes>>,
}

impl BaseImages {
    /// For one build.
    pub fn new(
        engine: &Arc<Engine>,
        pull: bool,
        headers: &HeaderMap,
        output: mpsc::Sender<io::Result<Bytes>>,
    ) -> Self {
        Self { engine: Arc::downgrade(engine), pull, credentials: credentials(headers), output }
    }

    fn credentials_for(&self, reference: &Reference) -> Option<Credentials> {
        let domain = reference.domain();
        let value = self.credentials.get(domain).or_else(|| match domain {
            "docker.io" => self.credentials.get(HUB_KEY),
            _ => None,
        })?;
        Credentials::from_header(&URL_SAFE.encode(value.to_string())).ok().flatten()
    }

    /// Fetches an image by name, for this machine's platform.
    pub async fn fetch(&self, engine: &Arc<Engine>, name: &str) -> Result<(), String> {
        self.pull(engine, name, &Platform::host()).await
    }

    async fn pull(&self, engine: &Arc<Engine>, name: &str, platform: &Platform) -> Result<(), String> {
        let reference = Reference::parse_normalized(name).map_err(|error| error_chain(&error))?;
        let credentials = self.credentials_for(&reference);
        let request = PullRequest { reference, platform: platform.clone(), credentials, beside: true };
        let resolved =
            pull::resolve(&engine.transfers, &request).await.map_err(|error| error_chain(&error))?;
        let (progress, response) = progress::channel();
        let pulling = pull::pull(Arc::clone(engine), request, resolved, progress);
        let ((), outcome) = futures_util::future::join(pulling, self.forward(response)).await;
        outcome
    }

    /// Passes the messages of a pull on, but keeps its error: that is the build's to tell.
    async fn forward(&self, response: axum::response::Response) -> Result<(), String> {
        let mut pieces = response.into_body().into_data_stream();
        let mut outcome = Ok(());
        while let Some(Ok(piece)) = pieces.next().await {
            let message: serde_json::Value = serde_json::from_slice(&piece).unwrap_or_default();
            match message.get("error").and_then(serde_json::Value::as_str) {
                Some(error) => outcome = Err(error.to_owned()),
                // A client that is gone cancels the build.
                None => drop(self.output.send(Ok(piece)).await),
            }
        }
        outcome
    }
}

impl ImageSource for BaseImages {
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'_, Result<ResolvedImage, String>> {
        Box::pin(async move {
            let engine = self.engine.upgrade().ok_or("the engine is ending")?;
            let platform = Platform::parse(&request.platform).map_err(|error| error.to_string())?;
            let found = engine.store.images().resolve(&request.name);
            let found =
                found.map(|image| engine.store.images().member_for(&image, &platform).unwrap_or(image));
            let image = match found {
                Ok(image) if !self.pull && fits(&image, &platform) => image,
                Ok(_) | Err(ResolveError::NotFound(_)) => {
                    self.pull(&engine, &request.name, &platform).await?;
                    let image = engine.store.images().resolve(&request.name);
                    let image = image.map_err(|error| error_chain(&error))?;
                    engine.store.images().member_for(&image, &platform).unwrap_or(image)
                }
                Err(error) => return Err(error_chain(&error)),
            };
            // A registry that has the image for another platform alone gave that one; the linter tells it.
            Ok(ResolvedImage { id: image.id.clone(), config: image.config.clone() })
        })
    }
}

/// Images made by hand often name no platform; they fit any.
fn fits(image: &Image, wanted: &Platform) -> bool {
    let found = image.config.platform();
    found.architecture.is_empty() || found.satisfies(wanted)
}

/// Credentials by registry. A header that cannot be read is as good as none, as in Docker.
fn credentials(headers: &HeaderMap) -> HashMap<String, serde_json::Value> {
    let header = headers.get(CONFIG_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bytes = URL_SAFE.decode(header).or_else(|_| URL_SAFE_NO_PAD.decode(header)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
