//! Images between this store and registries: what `docker pull` and `docker push` ask for.
//!
//! `ferry-remote` speaks with registries and yields streams; the store takes streams and verifies them. This
//! folder joins the two and tells the client how far it is, in the words that Docker's clients render:
//!
//! - [`progress`]: the JSON stream.
//! - [`pull`]: resolve, then all layers at once, in any order, then the image.
//! - [`push`]: blobs that the registry lacks, then the manifest.
//! - [`manifest`]: manifest lists on registries.
//! - [`artifact`]: Compose files and other small artifacts.
//! - [`body`]: network streams as blocking readers, going on where a connection broke.
//! - `ranges`: parts of one large blob side by side.

pub mod artifact;
pub mod body;
pub mod manifest;
pub mod progress;
pub mod pull;
pub mod push;
mod ranges;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use ferry_oci::Digest;
use ferry_remote::{Credentials, Registry, Settings};
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::error::{HttpError, HttpStatus};

/// Exchanges with registries of one engine.
pub struct Transfers {
    registry: RwLock<Registry>,
    /// Further connections for blobs that come slower than they are unpacked; each holds some MiB.
    ways: Arc<Semaphore>,
    arriving: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Transfers {
    /// Under these settings.
    pub fn new(settings: Settings) -> Self {
        Self {
            registry: RwLock::new(Registry::new(Arc::new(settings))),
            ways: Arc::new(Semaphore::new(ranges::WAYS_AT_ONCE)),
            arriving: Mutex::default(),
        }
    }

    /// The client side of registries, under the settings of this moment.
    pub fn registry(&self) -> Registry {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on other settings hold; what is on its way goes on under the old ones.
    pub fn follow(&self, settings: Settings) {
        let registry = Registry::new(Arc::new(settings));
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    /// A lock for a layer on its way in: who pulls the same layer at the same time waits here and finds it done.
    fn arrival(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        arriving.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = arriving.get(diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        arriving.insert(diff_id.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// Tells the listeners that an image travelled.
fn emit(engine: &Engine, action: &str, name: &str) {
    engine.events.emit("image", action, name, [("name".to_owned(), name.to_owned())].into());
}

/// Who asks, by the `X-Registry-Auth` header.
pub fn credentials(headers: &HeaderMap) -> Result<Option<Credentials>, HttpError> {
    let Some(header) = headers.get("x-registry-auth") else { return Ok(None) };
    let text = header.to_str().unwrap_or("?");
    Credentials::from_header(text).map_err(|error| HttpError::bad_request(error.to_string()))
}

impl HttpStatus for ferry_remote::RemoteError {
    fn status(&self) -> StatusCode {
        use ferry_remote::RemoteError as E;
        // A 401 means to clients that *this* API wants a login, and makes them ask for a password on the terminal; so
        // only a login is answered with it, as Docker does.
        match self {
            E::ManifestUnknown { .. }
            | E::BlobUnknown { .. }
            | E::NoPlatform { .. }
            | E::Denied { .. }
            | E::PushDenied { .. } => StatusCode::NOT_FOUND,
            E::LoginRefused { .. } => StatusCode::UNAUTHORIZED,
            E::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
