//! One build from its Dockerfile to its image, in the order: parse, fetch bases, lower, solve,
//! assemble. Owns no step of it.

use std::collections::HashMap;
use std::sync::Arc;

use ferry_oci::Digest;
use ferry_oci::image::ImageConfig;

use crate::diagnostic::Diagnostic;
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::{self, ParseError, SourceFile, Span};
use crate::image::assemble;
use crate::lint::{self, Finding};
use crate::lower::{
    self, ImageMap, ImageRequest, LowerError, LowerOptions, Lowered, Lowering, ResolvedImage,
};
use crate::solve::{BoxFuture, BuildInputs, EventSender, Job, SolveError, Solved, Solver, StepFailure, Tree};

/// How often lowering may ask for more images: bases, and what their triggers name.
const MAX_ROUNDS: usize = 8;

/// Finds base images.
pub trait ImageSource: Send + Sync {
    /// Finds an image in the store, or fetches it.
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'_, Result<ResolvedImage, String>>;
}

/// Why a build failed, with the place where one can be named.
#[derive(Debug, Clone, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum BuildError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error("{name}: {reason}")]
    Image { name: String, reason: String, span: Span },
    #[error("base images ask for other images without end")]
    TooManyRounds,
    #[error("{failure}")]
    Step {
        #[source]
        failure: StepFailure,
        /// The step's name.
        name: String,
        /// The instruction.
        span: Option<Span>,
    },
}

impl BuildError {
    /// The finding to show beside the file.
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        let span = match self {
            Self::Parse(error) => error.span,
            Self::Lower(error) => error.span,
            Self::Image { span, .. } => *span,
            Self::Step { span, .. } => (*span)?,
            Self::TooManyRounds => return None,
        };
        let message = match self {
            Self::Parse(error) => error.kind.to_string(),
            other => other.to_string(),
        };
        Some(Diagnostic::error(message, span))
    }

    /// The failed command's exit code.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Step { failure, .. } => match failure.error.as_ref() {
                SolveError::Exit { exit_code, .. } => Some(*exit_code),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A Dockerfile that is understood, with its bases known.
pub struct Plan {
    /// The text.
    pub file: Arc<SourceFile>,
    /// Its instructions.
    pub dockerfile: Dockerfile,
    /// Its graph.
    pub lowered: Lowered,
    /// Bases that are for another platform than was asked for.
    pub platforms: Vec<Finding>,
}

/// Parses a Dockerfile and finds its bases.
pub async fn plan(
    file: Arc<SourceFile>,
    options: &LowerOptions,
    images: &dyn ImageSource,
) -> Result<Plan, BuildError> {
    let dockerfile = dockerfile::parse(&file)?;
    let mut known = ImageMap::new();
    for _ in 0..MAX_ROUNDS {
        match lower::lower(&file, &dockerfile, options, &known)? {
            Lowering::Done(lowered) => {
                let platforms = other_platforms(&dockerfile, &known);
                return Ok(Plan { file, dockerfile, lowered: *lowered, platforms });
            }
            Lowering::Needs(requests) => fetch(&dockerfile, requests, images, &mut known).await?,
        }
    }
    Err(BuildError::TooManyRounds)
}

async fn fetch(
    dockerfile: &Dockerfile,
    requests: Vec<ImageRequest>,
    images: &dyn ImageSource,
    known: &mut ImageMap,
) -> Result<(), BuildError> {
    let found = requests.into_iter().map(|request| async move {
        let resolved = images.resolve(request.clone()).await;
        (request, resolved)
    });
    for (request, resolved) in futures_util::future::join_all(found).await {
        let image = resolved.map_err(|reason| BuildError::Image {
            span: place_of(dockerfile, &request.name),
            name: request.name.clone(),
            reason,
        })?;
        known.insert(request, image);
    }
    Ok(())
}

fn other_platforms(dockerfile: &Dockerfile, known: &ImageMap) -> Vec<Finding> {
    let mut requests: Vec<_> = known.iter().collect();
    requests.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    let finding = |(request, image): (&ImageRequest, &ResolvedImage)| {
        let place = place_of(dockerfile, &request.name);
        lint::base_platform(&request.name, &request.platform, &image.config.platform(), place)
    };
    requests.into_iter().filter_map(finding).collect()
}

/// The FROM that names an image, else the first one.
fn place_of(dockerfile: &Dockerfile, name: &str) -> Span {
    let stages = &dockerfile.stages;
    let found = stages.iter().find(|stage| stage.from.base.value == name);
    found.or(stages.first()).map_or(Span::default(), |stage| stage.from.base.span)
}

/// A finished build.
pub struct Built {
    /// The image's configuration.
    pub config: ImageConfig,
    /// The same as bytes.
    pub config_bytes: Vec<u8>,
    /// The image's id.
    pub id: Digest,
    /// The trees of the steps.
    pub trees: HashMap<crate::llb::VertexId, Tree>,
    /// The cache's keys of the steps.
    pub keys: HashMap<crate::llb::VertexId, String>,
}

impl Built {
    /// The cache's keys of the steps that made the image's layers, or of all steps.
    pub fn cache_keys(&self, lowered: &Lowered, all: bool) -> Vec<String> {
        let own: std::collections::HashSet<_> =
            lowered.history.iter().filter_map(|line| line.vertex).chain(lowered.result).collect();
        let mut wanted: Vec<_> = self.keys.iter().filter(|(id, _)| all || own.contains(id)).collect();
        wanted.sort_by_key(|(id, _)| id.index());
        wanted.into_iter().map(|(_, key)| key.clone()).collect()
    }
}

/// Does what a plan says.
pub async fn run(
    solver: &Arc<Solver>,
    plan: &Plan,
    options: &LowerOptions,
    inputs: Arc<BuildInputs>,
    events: EventSender,
) -> Result<Built, BuildError> {
    let lowered = &plan.lowered;
    let solved = match lowered.result {
        None => Solved::default(),
        Some(result) => {
            let job = Job {
                graph: Arc::new(lowered.graph.clone()),
                inputs,
                events,
                epoch: lowered.epoch,
                resources: options.resources.clone(),
            };
            let solved = solver.solve(Arc::new(job), result).await;
            // Also after a failure: what was done stays done.
            flush(solver).await;
            solved.map_err(|failure| step_error(lowered, failure))?
        }
    };
    let Solved { trees, keys } = solved;
    let built = finish(&lowered.config, &lowered.history, lowered.result, trees, lowered.epoch);
    Ok(Built { keys, ..built })
}

async fn flush(solver: &Arc<Solver>) {
    let solver = Arc::clone(solver);
    // The answer need not wait for the disk: what is lost in a crash is a miss.
    tokio::task::spawn_blocking(move || {
        solver.hashes().save();
        if let Err(error) = solver.cache().flush() {
            tracing::warn!(error = &error as &dyn std::error::Error, "build cache is not durable");
        }
    });
}

fn step_error(lowered: &Lowered, failure: StepFailure) -> BuildError {
    let info = &lowered.graph.vertex(failure.vertex).info;
    BuildError::Step { name: info.name.clone(), span: info.span, failure }
}

/// The image that a build would give if it ended with this step: its id and its configuration. None where the
/// step's tree is not known.
pub fn step_image(
    step: &lower::Step,
    trees: &HashMap<crate::llb::VertexId, Tree>,
    epoch: Option<i64>,
) -> Option<(Digest, Vec<u8>)> {
    trees.get(&step.vertex?)?;
    let config = assemble(&step.config, &step.history, step.vertex, trees, epoch);
    let bytes = serde_json::to_vec(&config).expect("a configuration is plain data");
    Some((Digest::sha256_of(&bytes), bytes))
}

/// The image of a tree.
pub fn finish(
    config: &ImageConfig,
    history: &[lower::HistoryDraft],
    result: Option<crate::llb::VertexId>,
    trees: HashMap<crate::llb::VertexId, Tree>,
    epoch: Option<i64>,
) -> Built {
    let config = assemble(config, history, result, &trees, epoch);
    let config_bytes = serde_json::to_vec(&config).expect("a configuration is plain data");
    Built { id: Digest::sha256_of(&config_bytes), config, config_bytes, trees, keys: HashMap::new() }
}
