//! The builds of an engine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_build::build::{self, BuildError, Built, Plan};
use ferry_build::lower::NoCache;
use ferry_build::solve::{EventSender, Solver};
use ferry_oci::Digest;
use ferry_store::{DatabaseError, RegisterError, Registration};
use tokio::sync::oneshot;

use super::budget::Active;
use super::context::Context;
use super::download::WebDownloads;
use super::executor::StepExecutor;
use super::images::BaseImages;
use super::options::BuildOptions;
use super::steps::StepImages;
use crate::clock;
use crate::engine::Engine;

/// Why a build gave no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildFailure {
    /// The Dockerfile or one of its steps.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The image cannot be kept.
    #[error("cannot register the image")]
    Register(#[from] RegisterError),
    /// The layers of the steps cannot be made one.
    #[error("cannot squash the layers")]
    Squash(#[from] ferry_store::DiffError),
    /// A thread failed.
    #[error("a worker thread failed: {0}")]
    Worker(String),
}

/// A build that gave an image.
pub struct Finished {
    /// The image's id.
    pub id: Digest,
    /// What was made.
    pub built: Built,
}

/// Solver and running builds of an engine.
pub struct BuildService {
    solver: Arc<Solver>,
    running: Mutex<HashMap<String, oneshot::Sender<()>>>,
    active: Active,
    steps: StepImages,
}

impl BuildService {
    /// Opens the cache.
    pub fn open(engine: &Arc<Engine>) -> Result<Self, DatabaseError> {
        let executor = Arc::new(StepExecutor::new(engine));
        let solver = Solver::open(Arc::clone(&engine.store), executor, Arc::new(WebDownloads::new()))?;
        Ok(Self {
            solver,
            running: Mutex::default(),
            active: Active::default(),
            steps: StepImages::default(),
        })
    }

    /// The solver.
    pub fn solver(&self) -> &Arc<Solver> {
        &self.solver
    }

    /// Steps that can be run.
    pub fn steps(&self) -> &StepImages {
        &self.steps
    }

    /// Builds under way.
    pub fn active(&self) -> &Active {
        &self.active
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a build that can be canceled by its name; the answer resolves when it is.
    pub fn note(&self, build_id: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut running = self.running();
        running.retain(|_, sender| !sender.is_closed());
        running.insert(build_id.to_owned(), sender);
        receiver
    }

    /// Cancels a build; one that is over already is no mistake.
    pub fn cancel(&self, build_id: &str) {
        if let Some(sender) = self.running().remove(build_id) {
            // A build that ended in this moment has nothing left to cancel.
            let _ = sender.send(());
        }
    }

    /// Parses a Dockerfile and finds its bases.
    pub async fn plan(
        &self,
        context: &Context,
        options: &BuildOptions,
        images: &BaseImages,
    ) -> Result<Plan, BuildFailure> {
        Ok(build::plan(Arc::clone(&context.file), &options.lower, images).await?)
    }

    /// Does what a plan says, and keeps and names the image.
    pub async fn build(
        &self,
        engine: &Arc<Engine>,
        plan: &Plan,
        options: &BuildOptions,
        context: &mut Context,
        events: EventSender,
    ) -> Result<Finished, BuildFailure> {
        let inputs = Arc::new(std::mem::take(&mut context.inputs));
        let mut built = build::run(&self.solver, plan, &options.lower, inputs, events).await?;
        let _layer = match options.squash {
            true => super::squash::squash(engine, plan, &mut built).await?,
            false => None,
        };
        if options.inline_cache {
            self.add_inline(plan, &mut built);
        }
        let id = register(engine, &built, options).await?;
        for tag in &options.tags {
            let attributes = std::collections::BTreeMap::from([("name".to_owned(), tag.familiar())]);
            engine.events.emit("image", "tag", &id.to_string(), attributes);
        }
        Ok(Finished { id, built })
    }
}

async fn register(
    engine: &Arc<Engine>,
    built: &Built,
    options: &BuildOptions,
) -> Result<Digest, BuildFailure> {
    let store = Arc::clone(&engine.store);
    let id = built.id.clone();
    let known = store.images().get(&id);
    // The same image made anew is as young as one that is made for the first time.
    let is_new = known.is_none() || options.lower.no_cache == NoCache::All;
    // A build that found everything in the cache gives an image that is there with all its names.
    if let (Some(image), false) = (known, is_new)
        && image.group.is_empty()
        && options.tags.iter().all(|tag| image.repo_tags.contains(&tag.familiar()))
    {
        return Ok(id);
    }
    let registration = Registration {
        config: built.config_bytes.clone(),
        references: options.tags.clone(),
        built: is_new.then(clock::now),
        ..Registration::default()
    };
    let registered = tokio::task::spawn_blocking(move || store.images().register(registration)).await;
    let image = registered.map_err(|error| BuildFailure::Worker(error.to_string()))??;
    Ok(image.id.clone())
}

/// Keeps the image of the step in front of a failed one, so that it can be run; gives its short id.
pub async fn keep_step(
    engine: &Arc<Engine>,
    plan: &Plan,
    texts: &super::ClassicOutput<'_>,
    failed: ferry_build::llb::VertexId,
) -> Option<String> {
    let step = texts.last_good(failed)?;
    let trees = texts.trees().clone();
    let built = build::finish(&step.config, &step.history, step.vertex, trees, plan.lowered.epoch);
    let registration =
        Registration { config: built.config_bytes, built: Some(clock::now()), ..Registration::default() };
    let store = Arc::clone(&engine.store);
    let registered = tokio::task::spawn_blocking(move || store.images().register(registration)).await;
    match registered {
        Ok(Ok(image)) => Some(image.id.short().to_owned()),
        Ok(Err(error)) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "no image of the step in front of a failed one"
            );
            None
        }
        Err(error) => {
            tracing::debug!(%error, "no image of the step in front of a failed one");
            None
        }
    }
}
