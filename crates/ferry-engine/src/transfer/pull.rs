//! Pull: resolve the reference, bring in all layers at once and in any order, then register the image.
//!
//! Nothing is visible before it is whole: the store verifies every layer against the manifest and the config, and the
//! image appears with its registration alone.

use std::sync::Arc;

use ferry_oci::image::{Descriptor, ImageConfig, media_type};
use ferry_oci::{Digest, Platform, Reference};
use ferry_remote::resolve::Resolved;
use ferry_remote::{Credentials, RemoteError};
use ferry_store::Store;
use ferry_store::image::{Image, Registration};
use ferry_store::layer::{LayerError, LayerOptions};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use tokio::sync::Semaphore;

use super::Transfers;
use super::body::{self, Wanted};
use super::progress::{Meter, Progress};
use crate::engine::Engine;
use crate::error::{HttpStatus, error_chain};

/// Layers in transit at once: enough to keep two cores busy with inflating while others wait for the network.
const LAYERS_AT_ONCE: usize = 6;

/// What a pull is to bring.
pub struct PullRequest {
    /// Which image.
    pub reference: Reference,
    /// For which platform.
    pub platform: Platform,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// An image for another platform that has the name keeps it, and stands for this one too.
    pub beside: bool,
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry's part.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The manifest's config is none of an image.
    #[error("{reference} is no image but an artifact of type `{media_type}`")]
    Artifact {
        /// What was asked for.
        reference: String,
        /// Its config's media type.
        media_type: String,
    },
    /// The config cannot be read or contradicts the manifest.
    #[error("config {digest} of {reference} is wrong: {reason}")]
    Config {
        /// What was asked for.
        reference: String,
        /// The config.
        digest: Digest,
        /// In which way.
        reason: String,
    },
    /// A layer did not come in.
    #[error("layer {digest} did not come in")]
    Layer {
        /// Its blob.
        digest: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The image cannot be entered.
    #[error("cannot register the image")]
    Register(#[from] ferry_store::image::RegisterError),
    /// It cannot be put beside the image that has its name.
    #[error("cannot keep the image beside the one for another platform")]
    Group(#[from] ferry_store::image::TagError),
    /// A worker thread ended before its time.
    #[error("a worker of the pull ended before its time")]
    Worker(#[from] tokio::task::JoinError),
    /// Nobody waits for the image any more.
    #[error("the client went away")]
    Cancelled,
}

impl HttpStatus for PullError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Remote(error) => error.status(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Finds the image; fails before anything is promised to the client.
pub async fn resolve(transfers: &Transfers, request: &PullRequest) -> Result<Resolved, PullError> {
    let registry = transfers.registry();
    let found = ferry_remote::resolve::resolve(
        &registry,
        &request.reference,
        &request.platform,
        request.credentials.as_ref(),
    );
    Ok(found.await?)
}

/// Brings in a resolved image and tells the client; ends early where the client goes away.
pub async fn pull(engine: Arc<Engine>, request: PullRequest, resolved: Resolved, progress: Progress) {
    let title = request.reference.tag().map_or_else(|| resolved.top.digest.to_string(), str::to_owned);
    progress.titled(&title, &format!("Pulling from {}", request.reference.path()));
    let outcome = tokio::select! {
        outcome = bring_in(&engine, &request, &resolved, &progress) => outcome,
        () = progress.closed() => Err(PullError::Cancelled),
    };
    match outcome {
        Ok(is_new) => {
            progress.line(&format!("Digest: {}", resolved.top.digest));
            let what = if is_new { "Downloaded newer image for" } else { "Image is up to date for" };
            progress.line(&format!("Status: {what} {}", request.reference.familiar()));
        }
        Err(PullError::Cancelled) => {
            tracing::info!("pull of {} given up: the client went away", request.reference)
        }
        Err(error) => progress.error(&error_chain(&error)),
    }
}

/// Whether the image under this name is another one than before.
async fn bring_in(
    engine: &Arc<Engine>,
    request: &PullRequest,
    resolved: &Resolved,
    progress: &Progress,
) -> Result<bool, PullError> {
    let config_bytes = fetch_config(request, resolved).await?;
    let diff_ids = diff_ids(request, resolved, &config_bytes)?;
    let before = engine.store.images().resolve(&request.reference.familiar()).ok();

    let slots = Semaphore::new(LAYERS_AT_ONCE);
    let layers: Vec<Layer<'_>> = resolved
        .parsed
        .layers
        .iter()
        .zip(&diff_ids)
        .map(|(blob, diff_id)| Layer { engine, resolved, blob, diff_id, progress, slots: &slots })
        .collect();
    let mut arriving: FuturesUnordered<_> = layers.iter().map(Layer::bring).collect();
    while let Some(arrived) = arriving.next().await {
        arrived?;
    }
    drop(arriving);

    let mut references = vec![request.reference.with_digest(resolved.top.digest.clone())];
    if request.reference.digest().is_none() {
        references.insert(0, request.reference.clone());
    }
    let registration = Registration {
        config: config_bytes,
        manifest: Some((resolved.manifest.media_type.clone(), resolved.manifest.bytes.to_vec())),
        references,
        ..Registration::default()
    };
    let store = Arc::clone(&engine.store);
    let neighbour = before
        .clone()
        .filter(|before| request.beside && !before.config.platform().satisfies(&request.platform));
    let image = tokio::task::spawn_blocking(move || match neighbour {
        None => store.images().register(registration).map_err(PullError::from),
        Some(neighbour) => register_beside(&store, &neighbour, registration),
    });
    let image = image.await??;
    super::emit(engine, "pull", &request.reference.familiar());
    Ok(before.is_none_or(|before| before.id != image.id))
}

/// Registers an image whose name another one has that is for another platform. This machine's keeps or gets the name
/// and stands for both.
fn register_beside(
    store: &Store,
    neighbour: &Arc<Image>,
    registration: Registration,
) -> Result<Arc<Image>, PullError> {
    let images = store.images();
    let is_own = |image: &Image| image.config.platform().satisfies(&Platform::host());
    let members = images.members(neighbour);
    let unnamed = Registration { references: Vec::new(), ..registration.clone() };
    let mut image = images.register(unnamed)?;
    let leads = is_own(&image) && !is_own(neighbour);
    if leads {
        image = images.register(registration)?;
    }
    let others = members.iter().filter(|member| member.config.platform() != image.config.platform());
    let all = others.map(|member| member.id.clone()).chain([image.id.clone()]).collect();
    images.group(if leads { &image.id } else { &neighbour.id }, all)?;
    Ok(image)
}

/// The config's bytes, verified.
async fn fetch_config(request: &PullRequest, resolved: &Resolved) -> Result<Vec<u8>, PullError> {
    let config = &resolved.parsed.config;
    let reference = request.reference.familiar();
    if !media_type::is_image_config(&config.media_type) {
        return Err(PullError::Artifact { reference, media_type: config.media_type.clone() });
    }
    Ok(resolved.repository.document(config).await?)
}

fn diff_ids(request: &PullRequest, resolved: &Resolved, config: &[u8]) -> Result<Vec<Digest>, PullError> {
    let wrong = |reason: String| PullError::Config {
        reference: request.reference.familiar(),
        digest: resolved.parsed.config.digest.clone(),
        reason,
    };
    let config: ImageConfig = serde_json::from_slice(config).map_err(|error| wrong(error.to_string()))?;
    let (named, sent) = (config.rootfs.diff_ids.len(), resolved.parsed.layers.len());
    if named != sent {
        return Err(wrong(format!("it names {named} layers, its manifest {sent}")));
    }
    Ok(config.rootfs.diff_ids)
}

/// The right to bring in a layer.
type Turn = Arc<tokio::sync::OwnedMutexGuard<()>>;

/// One layer of a pull.
struct Layer<'a> {
    engine: &'a Arc<Engine>,
    resolved: &'a Resolved,
    blob: &'a Descriptor,
    diff_id: &'a Digest,
    progress: &'a Progress,
    slots: &'a Semaphore,
}

impl Layer<'_> {
    /// Brings it in, unless it is there, or another pull is just bringing it.
    async fn bring(&self) -> Result<(), PullError> {
        let id = self.blob.digest.short();
        if self.engine.store.layer(self.diff_id).is_some() {
            self.progress.status(id, "Already exists");
            return Ok(());
        }
        self.progress.status(id, "Pulling fs layer");
        let arrival = self.engine.transfers.arrival(self.diff_id);
        let turn = match Arc::clone(&arrival).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                self.progress.status(id, "Waiting");
                arrival.lock_owned().await
            }
        };
        // Closing the semaphore is nobody's business here, so a permit always comes.
        let _slot = self.slots.acquire().await;
        if self.engine.store.layer(self.diff_id).is_some() {
            self.progress.status(id, "Pull complete");
            return Ok(());
        }
        self.import(&Arc::new(turn)).await?;
        for status in ["Verifying Checksum", "Download complete", "Pull complete"] {
            self.progress.status(id, status);
        }
        Ok(())
    }

    async fn import(&self, turn: &Turn) -> Result<(), PullError> {
        let digest = &self.blob.digest;
        let outcome = match self.import_once(turn).await? {
            // What an earlier attempt left may be what is wrong; the store has thrown it away.
            (Err(error), had) if had > 0 && !broke_off(&error) => {
                tracing::warn!("blob {digest} from byte 0 again: {}", error_chain(&error));
                self.import_once(turn).await?.0
            }
            (outcome, _) => outcome,
        };
        outcome.map_err(|source| PullError::Layer { digest: digest.clone(), source })
    }

    /// Fetches, verifies and unpacks in one pass; tells how many bytes were here before. Ends when this future is
    /// dropped.
    async fn import_once(&self, turn: &Turn) -> Result<(Result<(), LayerError>, u64), PullError> {
        let Self { engine, resolved, blob, progress, .. } = *self;
        let meter = Arc::new(Meter::new(progress, blob.digest.short(), "Downloading", blob.size));
        let (_guard, cancelled) = body::guard();
        let mut repositories = resolved.repositories();
        if is_foreign(blob) {
            let places = blob.urls.iter().filter_map(|url| resolved.repository.elsewhere(url));
            repositories.extend(places.collect::<Vec<_>>());
        }
        let wanted = Wanted { repositories, digest: blob.digest.clone(), size: blob.size };
        let ways = Arc::clone(&engine.transfers.ways);
        let (store, options, turn) = (Arc::clone(&engine.store), self.options(), Arc::clone(turn));
        let work = move || {
            // Whoever comes next finds what a cancelled import has kept, so it waits for the end of this one.
            let _turn = turn;
            let mut had = 0;
            let open = |have| {
                had = have;
                body::fetch(wanted, have, meter, ways, cancelled)
            };
            let outcome = store.resume_layer(open, &options).map(drop);
            (outcome, had)
        };
        Ok(tokio::task::spawn_blocking(work).await?)
    }

    fn options(&self) -> LayerOptions {
        LayerOptions {
            diff_id: Some(self.diff_id.clone()),
            blob_digest: Some(self.blob.digest.clone()),
            media_type: Some(self.blob.media_type.clone()).filter(|media_type| !media_type.is_empty()),
            discard_blob: false,
            resume: Some(self.blob.size),
        }
    }
}

/// Layers that their maker allows nobody to pass on: they are where the manifest says, not on the registry.
pub(super) fn is_foreign(blob: &Descriptor) -> bool {
    blob.media_type.contains("foreign") || blob.media_type.contains("nondistributable")
}

/// Whether the bytes stopped coming, rather than being wrong.
fn broke_off(error: &LayerError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<RemoteError>() {
            return true;
        }
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
